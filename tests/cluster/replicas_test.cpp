// Which replicas a router uses: who is refused, preferred, left alone for a while.
#include <gtest/gtest.h>

#include "tests/cluster/routing.h"

namespace pleat::test {
namespace {

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

TEST(Replicas, AListWithAWrongAddressChangesNothing) {
  FakeWorld world;
  Routing routing(world, {"a"});
  const auto before = routing.replicas.all();
  EXPECT_THROW(routing.replicas.set({"b", "c:99999"}), Error);
  EXPECT_EQ(routing.replicas.all(), before);
}

TEST(Replicas, ThreeFailuresInARowAreLeftAloneAndThenTriedWithOneRequest) {
  FakeWorld world;
  world["a"].refuses = Refusal(rpc::Error::Code::INTERNAL, "broken");
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
