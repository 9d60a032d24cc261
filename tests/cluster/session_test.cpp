// Texts that outlive their replicas, in a world whose clock and faults are chosen.
#include "cluster/router/session.h"

#include <gtest/gtest.h>

#include <ctime>

#include "tests/cluster/fake_replica.h"

namespace pleat::test {
namespace {

using Code = rpc::Error::Code;

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

void expect_whole(const Routing::Text& text, uint64_t seed, uint32_t tokens) {
  EXPECT_FALSE(text.refusal) << text.refusal->what();
  EXPECT_EQ(text.text, ruled_text(seed, tokens));
  EXPECT_EQ(text.reason, rpc::FinishReason::LENGTH);
  EXPECT_EQ(text.completion_tokens, tokens);
  EXPECT_EQ(text.prompt_tokens, 3u);
}

TEST(Session, ATextIsTheReplicas) {
  FakeWorld world;
  world["a"];
  Routing routing(world, {"a"});
  const auto text = routing.write(5, 20);
  expect_whole(text, 5, 20);
  EXPECT_EQ(text.moves, 0);
}

TEST(Session, ARequestThatSaysNoTimeIsGivenTheRouters) {
  FakeWorld world;
  world["a"];
  const int64_t before = std::time(nullptr);
  Routing(world, {"a"}).write(5, 2);
  EXPECT_GE(world["a"].clock, before);
  EXPECT_LE(world["a"].clock, std::time(nullptr));
}

TEST(Session, ADeathAfterAnyTokenIsNotSeenInTheText) {
  for (size_t token = 0; token <= 12; ++token) {
    FakeWorld world;
    world["a"].dies_after = token;
    world["b"];
    Routing routing(world);
    routing.clock = 951782400;
    expect_whole(routing.write(7, 12), 7, 12);
    EXPECT_EQ(world["b"].requests, token < 12);
    if (token == 12) continue;
    EXPECT_EQ(world["b"].written, std::vector<size_t>{token});
    EXPECT_EQ(world["a"].clock, 951782400);  // a template shows the same date again
    EXPECT_EQ(world["b"].clock, 951782400);
  }
}

TEST(Session, EveryReplicaMayDieOnceAndAgain) {
  FakeWorld world;
  world["a"].dies_after = 3;
  world["b"].dies_after = 6;
  world["c"].dies_after = 9;
  Routing routing(world, {"a", "b", "c"});
  const auto text = routing.write(1, 9);
  expect_whole(text, 1, 9);
  EXPECT_GE(text.moves, 2);
}

TEST(Session, AReplicaThatStandsStillInTheMiddleIsLeft) {
  FakeWorld world;
  world["a"].stops_after = 4;
  world["b"];
  Routing routing(world);
  const kj::TimePoint before = world.timer.now();
  const auto text = routing.write(2, 10);
  expect_whole(text, 2, 10);
  EXPECT_EQ(text.moves, 1);
  const auto took = world.timer.now() - before;
  EXPECT_GE(took, routing.options.piece_timeout);
  EXPECT_LE(took, routing.options.piece_timeout + 2 * kj::SECONDS);
}

TEST(Session, AReplicaThatAnswersNothingAnyMoreIsLeftWithinTheStatsDeadline) {
  FakeWorld world;
  world["a"].pace = 100 * kj::MILLISECONDS;
  world["b"];
  Routing routing(world);
  int pieces = 0;
  const kj::TimePoint before = world.timer.now();
  const auto text = routing.write(3, 30, [&](rpc::Piece::Reader) -> kj::Promise<void> {
    if (++pieces == 5) world["a"].silent = true;
    return kj::READY_NOW;
  });
  expect_whole(text, 3, 30);
  EXPECT_EQ(text.moves, 1);
  EXPECT_LE(world.timer.now() - before, routing.options.stats_timeout + routing.options.stats_period + 2 * kj::SECONDS);
  EXPECT_FALSE(routing.replicas.all()[0]->usable());
  EXPECT_EQ(routing.replicas.all()[0]->trouble(), "it does not answer any more");
  world["a"].silent = false;
  world.pass(20 * kj::SECONDS);
  EXPECT_TRUE(routing.replicas.all()[0]->usable()) << "it is back";
}

TEST(Session, AnEngineThatIsStuckBeforeTheFirstTokenIsFoundByItsStats) {
  FakeWorld world;
  world["a"].stops_after = 0;
  world["a"].stuck = true;
  world["b"];
  Routing routing(world);
  expect_whole(routing.write(4, 5), 4, 5);
  EXPECT_GE(world.timer.now() - kj::origin<kj::TimePoint>(), routing.options.piece_timeout);
}

TEST(Session, ADrainingBusyOrBrokenReplicaIsPassedOver) {
  for (const Refusal& refusal :
       {Refusal(Code::DRAINING, "leaving"), Refusal(Code::QUEUE_FULL, "full", 400), Refusal(Code::INTERNAL, "broken"),
        Refusal(Code::SLOW_READER, "behind, but not the client")}) {
    FakeWorld world;
    world["a"].refuses = refusal;
    world["b"];
    Routing routing(world);
    expect_whole(routing.write(5, 5), 5, 5);
    EXPECT_EQ(world["a"].requests, 1);
  }
}

TEST(Session, WithNoReplicaLeftItSaysWhenToTryAgain) {
  FakeWorld world;
  Routing routing(world);
  const auto text = routing.write(1, 5);
  ASSERT_TRUE(text.refusal);
  EXPECT_EQ(text.refusal->kind(), ErrorKind::disconnected);
  EXPECT_GT(text.refusal->retry_after_ms(), 0u);
}

TEST(Session, WhereAllAreBusyTheFirstThatIsFreeSaysWhenToTryAgain) {
  FakeWorld world;
  world["a"].refuses = Refusal(Code::QUEUE_FULL, "full", 700);
  world["b"].refuses = Refusal(Code::QUEUE_FULL, "full", 300);
  Routing routing(world);
  const auto text = routing.write(1, 5);
  ASSERT_TRUE(text.refusal);
  EXPECT_EQ(text.refusal->kind(), ErrorKind::overloaded);
  EXPECT_EQ(text.refusal->retry_after_ms(), 300u);
}

TEST(Session, WhatEveryReplicaWouldRefuseIsRefusedOnce) {
  for (const Code code : {Code::BAD_REQUEST, Code::NOT_FINITE}) {
    FakeWorld world;
    for (const char* address : {"a", "b"}) world[address].refuses = Refusal(code, "top_p is 2");
    Routing routing(world);
    const auto text = routing.write(1, 5);
    ASSERT_TRUE(text.refusal);
    EXPECT_STREQ(text.refusal->what(), "top_p is 2");
    EXPECT_EQ(world["a"].requests + world["b"].requests, 1);
  }
}

TEST(Session, ATextThatHasBegunWaitsForAReplicaToComeBack) {
  for (const bool comes_back : {true, false}) {
    FakeWorld world;
    world["a"].dies_after = 5;
    Routing routing(world, {"a"});
    int pieces = 0;
    const auto text = routing.write(6, 9, [&](rpc::Piece::Reader) -> kj::Promise<void> {
      if (++pieces < 5) return kj::READY_NOW;
      world["a"].dies_after = SIZE_MAX;
      world["a"].draining = !comes_back;
      world.kill("a");
      return kj::READY_NOW;
    });
    if (comes_back) {
      expect_whole(text, 6, 9);
    } else {
      ASSERT_TRUE(text.refusal) << "its patience is over";
      EXPECT_EQ(text.text, ruled_text(6, 5)) << "nothing twice, nothing more";
    }
  }
}

TEST(Session, ATextThatHasBegunGoesBackToAReplicaThatWasFull) {
  FakeWorld world;
  world["a"].dies_after = 3;
  world["b"].takes = 0;
  Routing routing(world);
  kj::Promise<void> room = nullptr;
  int pieces = 0;
  const auto text = routing.write(4, 8, [&](rpc::Piece::Reader) -> kj::Promise<void> {
    if (++pieces != 3) return kj::READY_NOW;
    world["a"].draining = true;
    room = world.timer.afterDelay(3 * kj::SECONDS).then([&] { world["b"].takes = 1; }).eagerlyEvaluate(nullptr);
    return kj::READY_NOW;
  });
  expect_whole(text, 4, 8);
  EXPECT_EQ(world["b"].written, std::vector<size_t>{3});
}

// Its time to wait for room begins when it looks for some, and it does not go back to where it stood still.
TEST(Session, ATextWhoseReplicaStoodStillWaitsForRoomAtAnother) {
  FakeWorld world;
  world["a"].stops_after = 4;
  world["b"].takes = 0;
  Routing routing(world);
  kj::Promise<void> room = nullptr;
  int pieces = 0;
  const auto text = routing.write(2, 10, [&](rpc::Piece::Reader) -> kj::Promise<void> {
    if (++pieces == 4)
      room = world.timer.afterDelay(routing.options.piece_timeout + 10 * kj::SECONDS)
                 .then([&] { world["b"].takes = 1; })
                 .eagerlyEvaluate(nullptr);
    return kj::READY_NOW;
  });
  expect_whole(text, 2, 10);
  EXPECT_EQ(world["a"].requests, 1);
  EXPECT_EQ(world["b"].written, std::vector<size_t>{4});
}

// The replica that does not answer does not keep the deadline either.
TEST(Session, ADeadlineEndsATextWhateverItsReplicaDoes) {
  for (const size_t tokens : {0, 4}) {
    FakeWorld world;
    world["a"].stops_after = tokens;
    Routing routing(world, {"a"});
    const kj::TimePoint before = world.timer.now();
    const auto text = routing.write(2, 10, {}, 700);
    ASSERT_TRUE(text.refusal);
    EXPECT_EQ(text.refusal->code(), Code::DEADLINE_EXCEEDED);
    EXPECT_EQ(text.text, ruled_text(2, tokens));
    EXPECT_NEAR(double((world.timer.now() - before) / kj::MILLISECONDS), 700, 2);
    world.pass(100 * kj::MILLISECONDS);
    EXPECT_EQ(world["a"].running, 0u);
    expect_whole(routing.write(2, uint32_t(tokens), {}, 700), 2, uint32_t(tokens));
  }
}

TEST(Session, ASlowClientDelaysItsTextAndIsNotTakenForAHang) {
  FakeWorld world;
  world["a"];
  world["b"];
  Routing routing(world);
  int pieces = 0;
  const auto text = routing.write(8, 6, [&](rpc::Piece::Reader) -> kj::Promise<void> {
    return ++pieces == 3 ? world.timer.afterDelay(routing.options.piece_timeout * 2) : kj::READY_NOW;
  });
  expect_whole(text, 8, 6);
  EXPECT_EQ(text.moves, 0);
}

TEST(Session, AClientThatLeavesEndsItsTextThere) {
  FakeWorld world;
  world["a"];
  Routing routing(world, {"a"});
  EXPECT_ANY_THROW(routing.write(8, 1000, [&](rpc::Piece::Reader) -> kj::Promise<void> {
    return KJ_EXCEPTION(DISCONNECTED, "the client is gone");
  }));
  world.pass(1 * kj::SECONDS);
  EXPECT_EQ(world["a"].running, 0u);
  EXPECT_LT(world["a"].generated, 10u);
  EXPECT_EQ(routing.replicas.all()[0]->load(), 0);
}

TEST(Session, AClientThatIsLostIsNoFailureOfItsReplica) {
  FakeWorld world;
  world["a"];
  Routing routing(world, {"a"});
  for (int i = 0; i < 2 * Breaker::kFailures; ++i)
    EXPECT_ANY_THROW(routing.write(8, 1000, [&](rpc::Piece::Reader) -> kj::Promise<void> {
      return KJ_EXCEPTION(DISCONNECTED, "the client takes nothing");
    }));
  EXPECT_EQ(routing.replicas.all()[0]->failures(), 0u);
  EXPECT_TRUE(routing.replicas.any_usable());
}

TEST(Replicas, AnotherModelIsRefusedWithASentence) {
  FakeWorld world;
  world["a"];
  world["b"].identity = "two";
  Routing routing(world);
  EXPECT_TRUE(routing.replicas.all()[0]->usable());
  EXPECT_FALSE(routing.replicas.all()[1]->usable());
  EXPECT_EQ(routing.replicas.all()[1]->trouble(),
            "it serves 'fake' (two), but a serves 'fake' (one): replicas have one model, fold and way to run it");
}

TEST(Replicas, AServerThatDoesNotKnowOfIdentitiesIsRefused) {
  FakeWorld world;
  world["a"].identity = "";
  Routing routing(world, {"a"});
  EXPECT_FALSE(routing.replicas.any_usable());
  EXPECT_EQ(routing.replicas.all()[0]->trouble(), "it is too old to go on with another one's text");
}

TEST(Replicas, RequestsGoWhereTheFewestTokensWait) {
  FakeWorld world;
  world["a"];
  world["b"];
  Routing routing(world);
  const auto first = routing.replicas.choose({}, {}, "");
  const Replica::Stay stay(first, 100);
  EXPECT_NE(routing.replicas.choose({}, {}, ""), first);
}

TEST(Replicas, AListThatChangesKeepsWhoStaysAndLetsTextsFinish) {
  FakeWorld world;
  for (const char* address : {"a", "b", "c"}) world[address];
  Routing routing(world, {"a", "b"});
  const auto b = routing.replicas.all()[1];
  bool changed = false;
  const auto text = routing.write(9, 20, [&](rpc::Piece::Reader) -> kj::Promise<void> {
    if (!std::exchange(changed, true)) routing.replicas.set({"b", "c"});
    return kj::READY_NOW;
  });
  expect_whole(text, 9, 20);
  EXPECT_EQ(text.moves, 0);
  EXPECT_EQ(routing.replicas.all()[0], b);
  EXPECT_EQ(world["b"].connections, 1);
  world.pass(100 * kj::MILLISECONDS);
  EXPECT_TRUE(routing.replicas.all()[1]->usable());
}

TEST(Replicas, ThreeFailuresInARowAreLeftAloneAndThenTriedWithOneRequest) {
  FakeWorld world;
  world["a"].refuses = Refusal(Code::INTERNAL, "broken");
  Routing routing(world, {"a"});
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(routing.write(1, 2).refusal);
  EXPECT_EQ(world["a"].requests, Breaker::kFailures);
  world.pass(Breaker::kFirstPause);
  world["a"].refuses.reset();
  expect_whole(routing.write(1, 2), 1, 2);
  EXPECT_TRUE(routing.replicas.any_usable());
}

TEST(Replicas, OneThatIsBackTakesAllThatCome) {
  FakeWorld world;
  Routing routing(world, {"a"});
  world.pass(2 * kj::SECONDS);
  world["a"].pace = 1 * kj::SECONDS;
  world.pass(Breaker::kLongestPause);
  ASSERT_TRUE(routing.replicas.any_usable());
  const Replica::Stay stay(routing.replicas.all()[0], 10);
  EXPECT_TRUE(routing.replicas.any_usable()) << "none of them is on trial";
}

TEST(Replicas, APromptGoesWhereItsBeginningHasBeenWhileThatIsNotMuchBusier) {
  FakeWorld world;
  world["a"];
  world["b"];
  Routing routing(world);
  const std::string shared(3 * PrefixAffinity::kBlock, 'x');
  const auto goes_to = [&](const std::string& prompt) {
    return routing.replicas.choose(PrefixAffinity::beginnings(prompt), {}, "")->address();
  };
  const auto at = [&](const std::string& address) {
    for (const auto& replica : routing.replicas.all())
      if (replica->address() == address) return replica;
    return std::shared_ptr<Replica>();
  };
  const std::string first = goes_to(shared + "one"), other = first == "a" ? "b" : "a";
  {
    const Replica::Stay busy(at(first), 100);
    EXPECT_EQ(goes_to(std::string(200, 'y')), other) << "nobody knows it: the least load";
    EXPECT_EQ(goes_to(shared + "two"), first) << "a little busier, but it has the beginning";
  }
  const Replica::Stay much_busier(at(first), kAffinitySlack + 1);
  EXPECT_EQ(goes_to(shared + "three"), other);
  EXPECT_EQ(goes_to(shared + "four"), other) << "who had it last";
}

TEST(Choice, TakesTheLeastLoadUnlessThePreferredIsNearlyAsFree) {
  const std::vector<Candidate> candidates = {{7, 500}, {3, 100}, {5, 100 + kAffinitySlack}, {9, 101 + kAffinitySlack}};
  EXPECT_EQ(choose(candidates, std::nullopt), 1u);
  EXPECT_EQ(choose(candidates, 7), 0u);
  EXPECT_EQ(choose(candidates, 5), 2u);
  EXPECT_EQ(choose(candidates, 9), 1u) << "too busy";
  EXPECT_EQ(choose(candidates, 4), 1u) << "gone";
}

TEST(Choice, RemembersTheLongestBeginning) {
  PrefixAffinity affinity;
  const std::string base(1000, 'x');
  affinity.remember(PrefixAffinity::beginnings(base), 1);
  affinity.remember(PrefixAffinity::beginnings(base.substr(0, 500) + std::string(500, 'y')), 2);
  EXPECT_EQ(affinity.find(PrefixAffinity::beginnings(base + "z")), 1);
  EXPECT_EQ(affinity.find(PrefixAffinity::beginnings(base.substr(0, 600))), 1);
  EXPECT_EQ(affinity.find(PrefixAffinity::beginnings(base.substr(0, 500) + std::string(200, 'y'))), 2);
  EXPECT_EQ(affinity.find(PrefixAffinity::beginnings(base.substr(0, 400))), 2) << "the newest";
  EXPECT_EQ(affinity.find(PrefixAffinity::beginnings(std::string(1000, 'z'))), std::nullopt);
  EXPECT_EQ(affinity.find(PrefixAffinity::beginnings("short")), std::nullopt);
  for (int i = 0; i < 70'000; ++i) affinity.remember({uint64_t(i)}, 3);
  EXPECT_EQ(affinity.find(PrefixAffinity::beginnings(base)), std::nullopt) << "forgotten";
}

TEST(Breaker, PausesGrowAndEndWithASuccess) {
  const auto at = [](int64_t ms) { return kj::origin<kj::TimePoint>() + ms * kj::MILLISECONDS; };
  Breaker breaker;
  breaker.failed(at(0));
  breaker.failed(at(0));
  EXPECT_TRUE(breaker.allows(at(0)));
  breaker.failed(at(0));
  EXPECT_FALSE(breaker.allows(at(199)));
  ASSERT_TRUE(breaker.allows(at(200)));
  breaker.begin();
  EXPECT_FALSE(breaker.allows(at(10'000))) << "one trial at a time";
  breaker.failed(at(300));
  EXPECT_FALSE(breaker.allows(at(699)));
  EXPECT_TRUE(breaker.allows(at(700)));
  breaker.begin();
  breaker.forgone();
  EXPECT_TRUE(breaker.allows(at(700)));
  breaker.begin();
  breaker.succeeded();
  EXPECT_TRUE(breaker.allows(at(700)));
  for (int i = 0; i < 20; ++i) breaker.lost(at(1000));
  EXPECT_EQ(breaker.reopens(), at(1000) + Breaker::kLongestPause);
}

TEST(Breaker, FailuresOfWhatWasUnderWayDoNotLengthenThePause) {
  const kj::TimePoint start = kj::origin<kj::TimePoint>();
  Breaker breaker;
  for (int i = 0; i < 64; ++i) breaker.failed(start);
  EXPECT_EQ(breaker.reopens(), start + Breaker::kFirstPause);
}

}  // namespace
}  // namespace pleat::test
