#pragma once
// Texts that go through a router, in a world whose clock and faults are chosen.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cluster/router/session.h"
#include "tests/cluster/fake_replica.h"

namespace pleat::test {

// A router before the world's replicas a, b, c ...
class Routing {
 public:
  explicit Routing(FakeWorld& world, std::vector<std::string> addresses = {"a", "b"})
      : world_(world), replicas(world.timer, world.connect(), options) {
    replicas.set(addresses);
    world.pass(20 * kj::MILLISECONDS);
  }

  struct Text : Routed {
    std::string text;
    std::vector<int32_t> tokens;
    int moves = 0;
  };
  Text write(uint64_t seed, uint32_t tokens, Session::Take take = {}, uint32_t deadline_ms = 0) {
    Text text;
    capnp::MallocMessageBuilder message;
    auto request = message.initRoot<rpc::GenerateRequest>();
    request.initPrompt().setText("a prompt");
    request.initSampling().setSeed(seed);
    request.getSampling().setMaxTokens(tokens);
    request.setDeadlineMs(deadline_ms);
    request.setClock(clock);
    Session session(world_.timer, replicas, options, request, [&](rpc::Piece::Reader piece) -> kj::Promise<void> {
      text.text += piece.getText().cStr();
      for (const int32_t token : piece.getTokens()) text.tokens.push_back(token);
      return take ? take(piece) : kj::READY_NOW;
    });
    static_cast<Routed&>(text) = world_.wait(session.run());
    text.moves = session.moves();
    return text;
  }

  int64_t clock = 0;

 private:
  FakeWorld& world_;

 public:
  RouterOptions options;
  ReplicaSet replicas;
};

inline void expect_whole(const Routing::Text& text, uint64_t seed, uint32_t tokens) {
  EXPECT_FALSE(text.refusal) << text.refusal->what();
  EXPECT_EQ(text.text, ruled_text(seed, tokens));
  EXPECT_EQ(text.reason, rpc::FinishReason::LENGTH);
  EXPECT_EQ(text.completion_tokens, tokens);
  EXPECT_EQ(text.prompt_tokens, 3u);
}

}  // namespace pleat::test
