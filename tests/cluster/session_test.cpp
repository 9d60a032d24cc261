// Texts that outlive their replicas, in a world whose clock and faults are chosen.
#include "cluster/router/session.h"

#include <gtest/gtest.h>

#include <ctime>

#include "tests/cluster/routing.h"

namespace pleat::test {
namespace {

using Code = rpc::Error::Code;

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

// Hosts have different amounts of memory for the key-value cache.
TEST(Session, WhatIsTooLargeForOneReplicaGoesToAnother) {
  FakeWorld world;
  world["a"].refuses = Refusal(Code::TOO_LARGE, "more than the cache");
  world["b"];
  Routing routing(world);
  for (uint64_t seed = 0; seed < 4; ++seed) expect_whole(routing.write(seed, 5), seed, 5);
  EXPECT_GT(world["a"].requests, 0);
  world["b"].refuses = Refusal(Code::TOO_LARGE, "more than the cache");
  const auto code = [&] { return routing.write(9, 5).refusal.value().code(); };
  EXPECT_EQ(code(), Code::TOO_LARGE);
  world["b"].refuses = Refusal(Code::QUEUE_FULL, "full", 100);
  EXPECT_EQ(code(), Code::QUEUE_FULL) << "it will have room";
}

}  // namespace
}  // namespace pleat::test
