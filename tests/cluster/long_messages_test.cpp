// Messages whose texts are a while in becoming tokens, and such that are longer than the model's context.
#include <gtest/gtest.h>

#include <optional>

#include "tests/cluster/served_model.h"

namespace pleat::test {
namespace {

using Code = rpc::Error::Code;

ServerLimits long_limits() {
  ServerLimits limits = wide_limits();
  limits.prompt_bytes = 1 << 20;
  return limits;
}

std::string long_text(size_t bytes) {
  std::string text;
  for (size_t i = 0; text.size() < bytes; ++i) text += i % 7 == 0 ? " library " : std::string(1, char('a' + i % 26));
  return text;
}

TEST(LongMessages, AreTheSameTokensAsShortOnes) {
  ServedModel served(long_limits());
  Caller caller(served);
  const std::string text = long_text(100'000);
  auto there = caller.engine().tokenizeRequest();
  there.initPrompt().setText(text.c_str());
  const auto tokens = served.wait(there.send());
  EXPECT_EQ(values_of(tokens.getResult().getOk().getTokens()),
            Tokenizer::open(embedded_model()).encode_with_special(text));
  auto gone = caller.engine().tokenizeRequest();
  gone.initPrompt().setText(text.c_str());
  { const auto dropped = gone.send(); }
  auto score = caller.engine().scoreRequest();
  score.initRequest().initContext().setText(text.c_str());
  score.getRequest().initContinuations(1)[0].setText(" y");
  EXPECT_EQ(served.wait(score.send()).getResult().getError().getCode(), Code::BAD_REQUEST);
}

// However full the server is: to come again would help nobody.
TEST(LongMessages, BeyondTheContextAreRefusedForWhatTheyAre) {
  ServerLimits limits = long_limits();
  limits.requests = 8;
  limits.tokens = 600;
  ServedModel served(limits);
  Caller caller(served);
  Received running, received;
  auto first = ask(caller.engine(), some_request(0, 450), running).eagerlyEvaluate(nullptr);
  EXPECT_TRUE(served.until([&] { return running.pushes > 0; }));
  for (const size_t bytes : {4'000u, 100'000u}) {
    auto request = caller.engine().generateRequest();
    request.initRequest().initPrompt().setText(long_text(bytes).c_str());
    const auto answer = served.wait(request.send());
    EXPECT_EQ(answer.getResult().getError().getCode(), Code::BAD_REQUEST) << bytes;
    EXPECT_NE(std::string(answer.getResult().getError().getMessage().cStr()).find("the model's context"),
              std::string::npos);
  }
}

// They wait in memory.
TEST(LongMessages, ThatAreBeingReadCountAsUnderWay) {
  ServerLimits limits = long_limits();
  limits.requests_per_connection = 3;
  ServedModel served(limits);
  Caller many(served), other(served);
  const std::string text = long_text(900'000);
  const auto tokenize = [&](Caller& caller) {
    auto call = caller.engine().tokenizeRequest();
    call.initPrompt().setText(text.c_str());
    return call.send();
  };
  std::vector<capnp::RemotePromise<rpc::Engine::TokenizeResults>> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(tokenize(many));
  const auto refused = served.wait(kj::mv(calls.back()));
  EXPECT_EQ(refused.getResult().getError().getCode(), Code::QUEUE_FULL);
  EXPECT_TRUE(served.wait(tokenize(other)).getResult().isOk());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(served.wait(kj::mv(calls[size_t(i)])).getResult().isOk());
  EXPECT_TRUE(served.wait(tokenize(many)).getResult().isOk()) << "they have been read";
}

// Hosts have different amounts of memory, so that another server may take it.
TEST(LongMessages, BeyondTheCacheAreTooLargeHere) {
  ServerLimits limits;
  limits.complete(512, 128);
  ServedModel served(limits);
  Caller caller(served);
  const auto code = [&](uint32_t max_tokens) -> std::optional<Code> {
    auto call = caller.engine().generateRequest();
    call.initRequest().initPrompt().initTokens(28);
    call.getRequest().initSampling().setMaxTokens(max_tokens);
    const auto answer = served.wait(call.send());
    if (answer.getResult().isOk()) return std::nullopt;
    return answer.getResult().getError().getCode();
  };
  EXPECT_EQ(code(100), std::nullopt);
  EXPECT_EQ(code(101), Code::TOO_LARGE);
}

}  // namespace
}  // namespace pleat::test
