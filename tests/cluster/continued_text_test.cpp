// The embedded model's own texts, with the connection to it cut after any number of bytes: what the client gets is the
// text without a cut, to the bit.
#include <gtest/gtest.h>

#include "cluster/router/session.h"
#include "tests/cluster/served_model.h"

namespace pleat::test {
namespace {

// A connection that breaks once so many bytes have been read from it.
class CutStream final : public kj::AsyncIoStream {
 public:
  CutStream(kj::Own<kj::AsyncIoStream> inner, int64_t& left) : inner_(kj::mv(inner)), left_(left) {}
  kj::Promise<size_t> tryRead(void* buffer, size_t least, size_t most) override {
    if (left_ <= 0) return broken();
    const size_t size = size_t(std::min<int64_t>(int64_t(most), left_));
    return inner_->tryRead(buffer, std::min(least, size), size).then([this, least](size_t got) -> kj::Promise<size_t> {
      left_ -= int64_t(got);
      if (got < least && left_ <= 0) return broken();
      return got;
    });
  }
  kj::Promise<void> write(const void* buffer, size_t size) override { return inner_->write(buffer, size); }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    return inner_->write(pieces);
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner_->whenWriteDisconnected(); }
  void shutdownWrite() override { inner_->shutdownWrite(); }

 private:
  kj::Promise<size_t> broken() { return KJ_EXCEPTION(DISCONNECTED, "cut"); }
  kj::Own<kj::AsyncIoStream> inner_;
  int64_t& left_;  // bytes
};

struct Text {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<TokenLogprob> logprobs;
  Routed end;
  int moves = 0;
};

// Two ways to the same server. The first is the one that is cut.
class TwoWays {
 public:
  TwoWays()
      : replicas_(
            served_.timer,
            [this](const std::string& address) -> kj::Promise<kj::Own<kj::AsyncIoStream>> {
              if (address == "whole") return served_.connect_raw();
              left_ = 1 << 30;
              return kj::Own<kj::AsyncIoStream>(kj::heap<CutStream>(served_.connect_raw(), left_));
            },
            options_) {}

  // The text, with the first way, a new one, cut after so many bytes of it.
  Text write(const Request& request, int64_t bytes) {
    replicas_.set({concat("cut ", ++texts_), "whole"});
    EXPECT_TRUE(served_.until([&] { return replicas_.all()[0]->usable() && replicas_.all()[1]->usable(); }));
    capnp::MallocMessageBuilder message;
    auto out = message.initRoot<rpc::GenerateRequest>();
    write_sampling(request.sampling, out.initSampling());
    write_tokens(request.prompt, out.initPrompt().initTokens(uint(request.prompt.size())));
    Text text;
    const auto take = [&](rpc::Piece::Reader piece) -> kj::Promise<void> {
      Growth growth{values_of(piece.getTokens()), piece.getText().cStr(), read_logprobs(piece.getLogprobs())};
      text.text += growth.text;
      text.tokens.insert(text.tokens.end(), growth.tokens.begin(), growth.tokens.end());
      text.logprobs.insert(text.logprobs.end(), growth.logprobs.begin(), growth.logprobs.end());
      return kj::READY_NOW;
    };
    left_ = bytes;
    Session session(served_.timer, replicas_, options_, out, take);
    text.end = served_.wait(session.run());
    text.moves = session.moves();
    EXPECT_FALSE(text.end.refusal) << text.end.refusal->what();
    used_ = bytes - left_;
    return text;
  }
  int64_t used() const { return used_; }  // of those bytes

 private:
  ServedModel served_;
  RouterOptions options_;
  int64_t left_ = 1 << 30, used_ = 0;
  int texts_ = 0;
  ReplicaSet replicas_;
};

std::vector<Request> requests() {
  Request greedy = some_request(2, 12);
  Request wild = some_request(1, 12);  // parts of characters, one after the other
  wild.sampling.temperature = 30;
  wild.sampling.logprobs = 2;
  Request stopped = some_request(3, 12);
  return {greedy, wild, stopped};
}

TEST(ContinuedText, ACutAfterAnyByteIsNotSeen) {
  TwoWays ways;
  std::vector<Request> all = requests();
  // A stop string over two tokens in the middle, which is half seen at some of the cuts.
  const std::string third = alone({all[2]}).at("3").text;
  all[2].sampling.stop = {third.substr(third.size() / 2, 4)};
  const auto expected = alone(all);
  int moves = 0;
  for (const Request& request : all) {
    const Completion& whole = expected.at(request.id);
    ways.write(request, 1 << 30);
    const int64_t bytes = ways.used();
    for (int64_t cut = 0; cut <= bytes; cut += bytes / 30) {
      const Text text = ways.write(request, cut);
      EXPECT_EQ(text.text, whole.text) << cut;
      EXPECT_EQ(text.tokens, whole.tokens) << cut;
      EXPECT_EQ(text.end.completion_tokens, whole.tokens.size());
      EXPECT_EQ(text.end.prompt_tokens, uint64_t(whole.prompt_tokens));
      EXPECT_EQ(text.end.reason == rpc::FinishReason::STOP, whole.finish_reason == "stop");
      ASSERT_EQ(text.logprobs.size(), whole.logprobs.size());
      for (size_t i = 0; i < whole.logprobs.size(); ++i) {
        EXPECT_EQ(text.logprobs[i].logprob, whole.logprobs[i].logprob);
        EXPECT_EQ(text.logprobs[i].best, whole.logprobs[i].best);
      }
      moves += text.moves;
    }
  }
  EXPECT_GT(moves, 20) << "the test cuts hardly any text in the middle";
}

}  // namespace
}  // namespace pleat::test
