// What strangers may send, and the calls that make no text.
#include <gtest/gtest.h>

#include "cluster/refusal.h"
#include "core/engine/continuations.h"
#include "tests/cluster/served_model.h"

namespace pleat::test {
namespace {

using Code = rpc::Error::Code;

struct Said {
  rpc::Error::Kind kind;
  Code code;
  std::string message;
};

// The error of a request that `change` spoils.
template <class Change>
Said refused(ServedModel& served, rpc::Engine::Client engine, Change&& change) {
  auto call = engine.generateRequest();
  auto request = call.initRequest();
  request.initPrompt().setText("x");
  request.initSampling().setMaxTokens(2);
  change(request);
  const auto answer = served.wait(call.send());
  EXPECT_TRUE(answer.getResult().isError()) << kj::str(answer).cStr();
  const auto error = answer.getResult().getError();
  return {error.getKind(), error.getCode(), error.getMessage().cStr()};
}

TEST(Messages, EverySizeAndValueIsCheckedAndTheServerGoesOn) {
  ServerLimits limits = wide_limits();
  limits.prompt_bytes = 100;
  limits.messages = 2;
  ServedModel served(limits);
  Caller caller(served);
  const auto expect = [&](Code code, const char* word, auto&& change) {
    const Said said = refused(served, caller.engine(), change);
    EXPECT_EQ(said.code, code) << said.message;
    EXPECT_EQ(said.kind, rpc::Error::Kind::INVALID);
    EXPECT_NE(said.message.find(word), std::string::npos) << said.message;
  };
  using Request = rpc::GenerateRequest::Builder;
  expect(Code::TOO_LARGE, "100", [](Request r) { r.initPrompt().setText(std::string(101, 'x').c_str()); });
  expect(Code::TOO_LARGE, "512", [](Request r) { r.initPrompt().initTokens(513); });
  expect(Code::TOO_LARGE, "messages", [](Request r) { r.initPrompt().initMessages(3); });
  expect(Code::TOO_LARGE, "messages",
         [](Request r) { r.initPrompt().initMessages(2)[1].setContent(std::string(101, 'x').c_str()); });
  expect(Code::TOO_LARGE, "stop", [](Request r) { r.getSampling().initStop(17); });
  expect(Code::TOO_LARGE, "stop",
         [](Request r) { r.getSampling().initStop(1).set(0, std::string(1025, 'x').c_str()); });
  expect(Code::TOO_LARGE, "logprobs", [](Request r) { r.getSampling().setLogprobs(21); });
  expect(Code::BAD_REQUEST, "top_k", [](Request r) { r.getSampling().setTopK(1u << 31); });
  expect(Code::BAD_REQUEST, "chat", [](Request r) { r.initPrompt().initMessages(1); });
  // What the engine itself refuses.
  expect(Code::BAD_REQUEST, "512", [](Request r) { r.initPrompt().initTokens(512); });
  expect(Code::BAD_REQUEST, "4096", [](Request r) { r.initPrompt().initTokens(1).set(0, 4096); });
  expect(Code::BAD_REQUEST, "-1", [](Request r) { r.initPrompt().initTokens(1).set(0, -1); });
  expect(Code::BAD_REQUEST, "temperature", [](Request r) { r.getSampling().setTemperature(-1); });
  expect(Code::BAD_REQUEST, "temperature", [](Request r) { r.getSampling().setTemperature(NAN); });
  expect(Code::BAD_REQUEST, "max_tokens", [](Request r) { r.getSampling().setMaxTokens(0); });
  expect(Code::BAD_REQUEST, "stop", [](Request r) { r.getSampling().initStop(1); });
  expect(Code::BAD_REQUEST, "logprobs", [](Request r) { r.getSampling().setLogprobs(-2); });

  const auto stats = served.wait(caller.engine().statsRequest().send());
  EXPECT_EQ(stats.getStats().getRefused(), 17u);
  EXPECT_EQ(stats.getStats().getRequests(), 0u);
  EXPECT_EQ(stats.getStats().getKvPagesFree(), stats.getStats().getKvPages());
  Received received;
  EXPECT_TRUE(served.wait(ask(caller.engine(), some_request(1), received)).getResult().isOk());
}

TEST(Messages, AStopStringIsItsBytesWithAZeroAmongThemToo) {
  SamplingOptions sampling;
  sampling.stop = {std::string("a\0b", 3), "c"};
  capnp::MallocMessageBuilder message;
  auto request = message.initRoot<rpc::GenerateRequest>();
  write_sampling(sampling, request.initSampling());
  request.initPrompt().initTokens(1).set(0, 1);
  const ModelText text = ModelText::open(embedded_model());
  const ServerLimits limits = wide_limits();
  const ModelTerms terms{text, limits, 512};
  EXPECT_EQ(read_request(request.asReader(), terms).sampling.stop, sampling.stop);
}

TEST(Messages, NumbersBelowTheirRangeDoNotTravel) {
  const auto error_of = [](int SamplingOptions::*field, int value) -> std::string {
    SamplingOptions sampling;
    sampling.*field = value;
    capnp::MallocMessageBuilder message;
    try {
      write_sampling(sampling, message.initRoot<rpc::Sampling>());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of(&SamplingOptions::max_tokens, -1), "max_tokens is -1, expected 1 or more");
  EXPECT_EQ(error_of(&SamplingOptions::top_k, -1), "top_k is -1, expected 0 (all) or more");
  EXPECT_EQ(error_of(&SamplingOptions::max_tokens, 1), "");
}

TEST(Messages, APromptOfAKindThatTheServerDoesNotKnowIsUnimplemented) {
  ServedModel served;
  Caller caller(served);
  const Said said = refused(served, caller.engine(), [](rpc::GenerateRequest::Builder request) {
    capnp::toAny(request.initPrompt()).getDataSection()[0] = 99;  // the union's discriminant
  });
  EXPECT_EQ(said.kind, rpc::Error::Kind::UNIMPLEMENTED);
  EXPECT_EQ(said.code, Code::UNIMPLEMENTED);
  EXPECT_EQ(said.message, "this server is older than the client: it does not know this kind of prompt");
}

// Sends bytes that are no RPC and waits until the server closes.
bool is_closed_after(ServedModel& served, const std::string& bytes) {
  auto stream = served.connect_raw();
  auto buffer = kj::heapArray<kj::byte>(4096);
  auto closed = stream->write(bytes.data(), bytes.size()).catch_([](kj::Exception&&) {});
  auto read = stream->tryRead(buffer.begin(), buffer.size(), buffer.size())
                  .then([](size_t) { return true; }, [](kj::Exception&&) { return true; });
  auto both = closed.then([&read] { return kj::mv(read); });
  return served.wait(served.timer.afterDelay(5 * kj::SECONDS).then([] { return false; }).exclusiveJoin(kj::mv(both)));
}

TEST(Messages, BytesThatAreNoMessageCloseTheirConnectionAndNothingElse) {
  ServedModel served;
  Caller caller(served);
  Received received;
  auto answer = ask(caller.engine(), some_request(1, 100), received).eagerlyEvaluate(nullptr);
  const auto words = [](std::initializer_list<uint32_t> values) {
    return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(uint32_t));
  };
  EXPECT_TRUE(is_closed_after(served, words({0xffffffff, 0}))) << "2^32 segments";
  EXPECT_TRUE(is_closed_after(served, words({0, 1u << 29}))) << "a segment of 4 GiB";
  EXPECT_TRUE(is_closed_after(served, words({0, 1, 0x12345678, 0x9abcdef0}))) << "a pointer to nowhere";
  EXPECT_TRUE(is_closed_after(served, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(served.wait(kj::mv(answer)).getResult().isOk());
  EXPECT_TRUE(served.until(
      [&] { return served.wait(caller.engine().statsRequest().send()).getStats().getConnections() == 1; }));
}

TEST(Messages, AMessageOverTheLimitClosesItsConnection) {
  ServedModel served;
  Caller caller(served);
  auto call = caller.engine().tokenizeRequest();
  call.initPrompt().setText(std::string(2 << 20, 'x').c_str());
  auto answer = call.send().then([](auto&&) { return false; }, [](kj::Exception&&) { return true; });
  EXPECT_TRUE(served.wait(kj::mv(answer)));
  Caller other(served);
  served.wait(other.engine().infoRequest().send());
}

// A stream whose other end writes but never reads.
class Deaf final : public kj::AsyncIoStream {
 public:
  explicit Deaf(kj::Own<kj::AsyncIoStream> inner) : inner_(kj::mv(inner)) {}
  kj::Promise<size_t> tryRead(void*, size_t, size_t) override { return kj::NEVER_DONE; }
  kj::Promise<void> write(const void* buffer, size_t size) override { return inner_->write(buffer, size); }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    return inner_->write(pieces);
  }
  kj::Promise<void> whenWriteDisconnected() override { return kj::NEVER_DONE; }
  void shutdownWrite() override { inner_->shutdownWrite(); }

 private:
  kj::Own<kj::AsyncIoStream> inner_;
};

TEST(Messages, AClientThatReadsNoAnswersLosesItsConnection) {
  ServerLimits limits = wide_limits();
  limits.prompt_bytes = 1;  // a message of a megabyte, four of unread answers
  ServedModel served(limits);
  Caller watcher(served);
  Deaf stream(served.connect_raw());
  capnp::TwoPartyClient rpc(stream);
  auto engine = rpc.bootstrap().castAs<rpc::Engine>();
  const auto connections = [&] {
    return served.wait(watcher.engine().statsRequest().send()).getStats().getConnections();
  };
  EXPECT_TRUE(served.until([&] { return connections() == 2; }));
  for (int batch = 0; batch < 100 && connections() == 2; ++batch)
    for (int i = 0; i < 1000; ++i) engine.infoRequest().send().detach([](kj::Exception&&) {});
  EXPECT_TRUE(served.until([&] { return connections() == 1; }));
}

TEST(Messages, MoreConnectionsThanTheLimitAreClosed) {
  ServerLimits limits = wide_limits();
  limits.connections = 1;
  ServedModel served(limits);
  Caller first(served), second(served);
  auto refused =
      second.engine().infoRequest().send().then([](auto&&) { return false; }, [](kj::Exception&&) { return true; });
  EXPECT_TRUE(served.wait(kj::mv(refused)));
  served.wait(first.engine().infoRequest().send());
}

TEST(Messages, AConnectionWithoutCallsIsClosedAfterAWhileAndOneThatWaitsIsNot) {
  ServerLimits limits = wide_limits();
  limits.idle_timeout_ms = 200;
  ServedModel served(limits);
  Caller idle(served), waits(served), asks(served);
  Received received;
  const auto slowly = [&](Received&) { return served.timer.afterDelay(50 * kj::MILLISECONDS); };
  auto answer = ask(waits.engine(), some_request(1, 20), received, slowly).eagerlyEvaluate(nullptr);
  served.wait(idle.engine().infoRequest().send());
  const auto connections = [&] { return served.wait(asks.engine().statsRequest().send()).getStats().getConnections(); };
  EXPECT_EQ(connections(), 3u);
  EXPECT_TRUE(served.until([&] { return connections() == 2; })) << "asking keeps a connection, and so does waiting";
  EXPECT_TRUE(served.until([&] { return connections() == 1 && received.done; }));
  EXPECT_TRUE(served.wait(kj::mv(answer)).getResult().isOk());
  EXPECT_EQ(received.all.tokens.size(), 20u);
}

TEST(Messages, ScoresAreThoseOfTheScorer) {
  const Tokenizer tokenizer = Tokenizer::open(embedded_model());
  const std::vector<std::string> texts = {" library", " of a train station", " is"};
  std::vector<Continuation> items;
  for (const std::string& text : texts) items.push_back(continuation_tokens(tokenizer, "The shared", text));
  std::vector<double> expected(items.size());
  with_engine(embedded_model(), 1, {}, [&](Engine& engine, Communicator& communicator) {
    score_continuations(engine, communicator, items, [&](size_t i, double value) { expected[i] = value; });
  });
  ServedModel served(wide_limits(), 2);
  Caller caller(served);
  auto call = caller.engine().scoreRequest();
  auto request = call.initRequest();
  request.initContext().setText("The shared");
  auto continuations = request.initContinuations(3);
  for (uint i = 0; i < 2; ++i) continuations[i].setText(texts[i].c_str());
  write_tokens(items[2].continuation, continuations[2].initTokens(uint(items[2].continuation.size())));
  const auto answer = served.wait(call.send());
  ASSERT_TRUE(answer.getResult().isOk()) << kj::str(answer).cStr();
  const auto scores = answer.getResult().getOk().getContinuations();
  ASSERT_EQ(scores.size(), 3u);
  for (uint i = 0; i < 3; ++i) {
    EXPECT_EQ(values_of(scores[i].getTokens()), items[i].continuation);
    // float32 logprobs of a handful of tokens
    EXPECT_NEAR(scores[i].getSum(), expected[i], 1e-4) << texts[i];
  }
}

TEST(Messages, AScoreThatCouldNeverBeTakenIsTooLarge) {
  ServerLimits limits = wide_limits();
  limits.requests = 2;
  limits.tokens = 10;
  ServedModel served(limits);
  Caller caller(served);
  const auto error_of = [&](uint continuations, uint tokens) -> std::optional<Said> {
    auto call = caller.engine().scoreRequest();
    auto request = call.initRequest();
    request.initContext().initTokens(1).set(0, 5);
    auto all = request.initContinuations(continuations);
    for (uint i = 0; i < continuations; ++i) {
      auto one = all[i].initTokens(tokens);
      for (uint token = 0; token < tokens; ++token) one.set(token, 7);
    }
    const auto answer = served.wait(call.send());
    if (answer.getResult().isOk()) return std::nullopt;
    const auto error = answer.getResult().getError();
    return Said{error.getKind(), error.getCode(), error.getMessage().cStr()};
  };
  EXPECT_FALSE(error_of(2, 4));
  EXPECT_FALSE(error_of(1, 20)) << "any one is taken";
  for (const auto& said : {error_of(3, 1), error_of(2, 5)}) {
    ASSERT_TRUE(said);
    EXPECT_EQ(said->kind, rpc::Error::Kind::INVALID);
    EXPECT_EQ(said->code, Code::TOO_LARGE) << said->message;
  }
  EXPECT_EQ(error_of(2, 5)->message, "2 requests of 12 tokens in one, a client has at most 2 of 10 at a time");
  EXPECT_EQ(served.wait(caller.engine().statsRequest().send()).getStats().getOverloaded(), 0u);
}

TEST(Messages, AClientHasOnlySoManyRequestsUnderWayAndOthersHaveTheirs) {
  ServerLimits limits = wide_limits();
  limits.requests_per_connection = 2;
  ServedModel served(limits);
  Caller many(served), other(served);
  Received received[4];
  const auto score = [&](uint continuations) {
    auto call = many.engine().scoreRequest();
    call.initRequest().initContext().setText("x");
    for (auto one : call.getRequest().initContinuations(continuations)) one.setText(" y");
    return served.wait(call.send());
  };
  auto first = ask(many.engine(), some_request(0, 450), received[0]).eagerlyEvaluate(nullptr);
  auto second = ask(many.engine(), some_request(1, 450), received[1]).eagerlyEvaluate(nullptr);
  const auto third = served.wait(ask(many.engine(), some_request(2), received[2]));
  const auto error = third.getResult().getError();
  EXPECT_EQ(error.getCode(), Code::QUEUE_FULL);
  EXPECT_EQ(error.getKind(), rpc::Error::Kind::OVERLOADED);
  EXPECT_GE(error.getRetryAfterMs(), 50u);
  EXPECT_EQ(score(1).getResult().getError().getCode(), Code::QUEUE_FULL);
  EXPECT_EQ(score(3).getResult().getError().getCode(), Code::TOO_LARGE) << "it could never be taken";
  EXPECT_TRUE(served.wait(ask(other.engine(), some_request(3), received[3])).getResult().isOk());
  { const auto dropped = kj::mv(first); }
  EXPECT_TRUE(served.until([&] { return score(1).getResult().isOk(); }));
}

TEST(Messages, TokensAndTextsThereAndBack) {
  ServedModel served;
  Caller caller(served);
  auto there = caller.engine().tokenizeRequest();
  there.initPrompt().setText("The shared library");
  const auto tokens = served.wait(there.send());
  EXPECT_EQ(values_of(tokens.getResult().getOk().getTokens()),
            Tokenizer::open(embedded_model()).encode_with_special("The shared library"));
  auto back = caller.engine().detokenizeRequest();
  back.setTokens(tokens.getResult().getOk().getTokens());
  EXPECT_STREQ(served.wait(back.send()).getResult().getOk().cStr(), "The shared library");
  auto unknown = caller.engine().detokenizeRequest();
  unknown.initTokens(1).set(0, 1 << 20);
  EXPECT_EQ(served.wait(unknown.send()).getResult().getError().getCode(), Code::BAD_REQUEST);
}

TEST(Messages, ConversationsGoThroughTheModelsChatTemplate) {
  ServedModel served;
  served.text().chat = ChatTemplate("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}> ", {}, {});
  Caller caller(served);
  auto call = caller.engine().tokenizeRequest();
  auto messages = call.initPrompt().initMessages(2);
  messages[0].setRole("system");
  messages[0].setContent("Be brief.");
  messages[1].setRole("user");
  messages[1].setContent("The shared library?");
  const auto answer = served.wait(call.send());
  ASSERT_TRUE(answer.getResult().isOk()) << kj::str(answer).cStr();
  EXPECT_EQ(values_of(answer.getResult().getOk().getTokens()),
            served.text().tokenizer.encode("[system] Be brief.\n[user] The shared library?\n> "));
}

TEST(Messages, ARefusalArrivesAsItWasSent) {
  for (const Refusal& sent :
       {Refusal(Code::QUEUE_FULL, "full", 250), Refusal(Code::DRAINING, "leaving"),
        Refusal(Error(ErrorKind::unimplemented, "other way")), Refusal(Error(ErrorKind::failed, "broken"))}) {
    capnp::MallocMessageBuilder message;
    auto out = message.initRoot<rpc::Error>();
    sent.write(out);
    const Refusal arrived(out.asReader());
    EXPECT_EQ(arrived.kind(), sent.kind());
    EXPECT_EQ(arrived.code(), sent.code());
    EXPECT_EQ(arrived.retry_after_ms(), sent.retry_after_ms());
    EXPECT_STREQ(arrived.what(), sent.what());
  }
  EXPECT_EQ(Refusal(Error(ErrorKind::unimplemented, "other way")).code(), Code::UNIMPLEMENTED);
  EXPECT_EQ(Refusal(Code::UNIMPLEMENTED, "other way").kind(), ErrorKind::unimplemented);
  EXPECT_EQ(name_of(Code::DEADLINE_EXCEEDED), "deadlineExceeded");
  EXPECT_EQ(name_of(Code(99)), "99");
}

}  // namespace
}  // namespace pleat::test
