#include "core/engine/step_plan.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>

#include "kernels/attention.h"
#include "kernels/check.h"
#include "parallel/thread_communicator.h"

namespace pleat {
namespace {

StepPlan random_plan(std::mt19937& random) {
  StepPlan plan;
  plan.step = int64_t(random()) << 20;
  plan.stop = random() % 2;
  plan.logits = LogitsMode(random() % 5);
  const int sequences = int(1 + random() % 5);
  for (int sequence = 0; sequence < sequences; ++sequence) {
    const int begin = int(random() % 100), count = int(1 + random() % 30);
    for (int position = begin; position < begin + count; ++position)
      plan.rows.push_back({int32_t(random() % 50257), position, sequence, uint8_t(random() % 2), uint8_t(random() % 2),
                           uint8_t(random() % 2)});
    std::vector<int32_t> pages(size_t((begin + count - 1) / kPageTokens + 1));
    for (int32_t& page : pages) page = int32_t(random() % 1000);
    plan.page_tables.push_back(pages);
    plan.slots.push_back(7 * sequence % 5 + 5 * int(random() % 10));
  }
  return plan;
}

void expect_equal(const StepPlan& a, const StepPlan& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.stop, b.stop);
  EXPECT_EQ(a.logits, b.logits);
  EXPECT_EQ(a.page_tables, b.page_tables);
  EXPECT_EQ(a.slots, b.slots);
  ASSERT_EQ(a.rows.size(), b.rows.size());
  for (size_t i = 0; i < a.rows.size(); ++i) {
    EXPECT_EQ(a.rows[i].token, b.rows[i].token);
    EXPECT_EQ(a.rows[i].position, b.rows[i].position);
    EXPECT_EQ(a.rows[i].sequence, b.rows[i].sequence);
    EXPECT_EQ(a.rows[i].folded, b.rows[i].folded);
    EXPECT_EQ(a.rows[i].wants_logits, b.rows[i].wants_logits);
    EXPECT_EQ(a.rows[i].prompt_end, b.rows[i].prompt_end);
  }
}

TEST(StepPlan, IsTheSameAfterTheJourney) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    const StepPlan plan = random_plan(random);
    expect_equal(parse_plan(serialise(plan)), plan);
  }
  expect_equal(parse_plan(serialise({})), {});
}

TEST(StepPlan, RefusesEveryTruncationAndExtension) {
  std::mt19937 random(2);
  std::vector<std::byte> bytes = serialise(random_plan(random));
  for (size_t length = 0; length < bytes.size(); ++length)
    EXPECT_THROW(parse_plan(std::span(bytes).first(length)), Error) << length;
  bytes.push_back({});
  EXPECT_THROW(parse_plan(bytes), Error);
}

TEST(StepPlan, RefusesASlotOfTwoSequencesAndANegativeOne) {
  StepPlan plan;
  plan.rows = {{1, 0, 0}, {2, 0, 1}};
  plan.page_tables = {{4}, {5}};
  plan.slots = {3, 0};
  expect_equal(parse_plan(serialise(plan)), plan);
  for (const int32_t slot : {3, -1}) {
    plan.slots[1] = slot;
    EXPECT_THROW(parse_plan(serialise(plan)), Error) << slot;
  }
  plan.slots.pop_back();
  EXPECT_THROW(serialise(plan), Error);
}

TEST(StepPlan, ChangedBytesAreAPlanWithinItsBoundsOrAnError) {
  std::mt19937 random(3);
  const std::vector<std::byte> bytes = serialise(random_plan(random));
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::byte> changed = bytes;
    for (int i = 0; i < 3; ++i) changed[random() % changed.size()] = std::byte(random());
    try {
      const StepPlan plan = parse_plan(changed);
      for (const StepRow& row : plan.rows)
        ASSERT_LT(size_t(row.position / kPageTokens), plan.page_tables.at(size_t(row.sequence)).size());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::failed);
    }
  }
}

TEST(StepPlan, ReachesEveryRankUntilOneStops) {
  std::mt19937 random(4);
  std::vector<StepPlan> plans;
  for (int i = 0; i < 10; ++i) plans.push_back(random_plan(random));
  for (int i = 0; i < 10; ++i) plans[size_t(i)].stop = i == 9;
  std::atomic<int> received = 0;
  run_ranks(3, [&](Communicator& communicator) {
    if (communicator.rank() == 0) {
      for (StepPlan& plan : plans) broadcast_plan(communicator, plan);
      return;
    }
    StepPlan plan;
    for (size_t i = 0; !plan.stop; ++i) {
      broadcast_plan(communicator, plan);
      expect_equal(plan, plans.at(i));
      ++received;
    }
  });
  EXPECT_EQ(received, 20);
}

TEST(StepPlan, AnEmptyOneOnlySaysThatRankZeroIsAlive) {
  run_ranks(2, [](Communicator& communicator) {
    StepPlan plan;
    if (communicator.rank() == 0) {
      for (int i = 0; i < 3; ++i) broadcast_plan(communicator, plan);
      plan.stop = true;
    }
    broadcast_plan(communicator, plan);
    EXPECT_TRUE(plan.stop);
  });
}

TEST(StepPlan, ASizeThatNoPlanHasIsRefused) {
  for (const int64_t size : {int64_t(-1), int64_t(1) << 60}) {
    run_ranks(2, [&](Communicator& communicator) {
      if (communicator.rank() == 0) {
        int64_t wrong = size;
        communicator.broadcast("plan size", std::as_writable_bytes(std::span(&wrong, 1)));
        return;
      }
      StepPlan plan;
      EXPECT_THROW(broadcast_plan(communicator, plan), Error);
    });
  }
}

}  // namespace
}  // namespace pleat
