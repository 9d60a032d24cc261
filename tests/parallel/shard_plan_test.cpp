#include "parallel/shard_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

#include "kernels/check.h"
#include "kernels/matmul.h"

namespace pleat {
namespace {

// GPT2-XL, Falcon-7B, the embedded model, a grouped-query model, and one narrower than its virtual shards.
const ModelSizes kModels[] = {
    {.hidden = 1600, .vocab = 50257, .neurons = 6400, .heads = 25, .kv_heads = 25},
    {.hidden = 4544, .vocab = 65024, .neurons = 18176, .heads = 71, .kv_heads = 1},
    {.hidden = 320, .vocab = 8192, .neurons = 1280, .heads = 5, .kv_heads = 5},
    {.hidden = 4096, .vocab = 32000, .neurons = 14336, .heads = 32, .kv_heads = 8},
    {.hidden = 20, .vocab = 64, .neurons = 10, .heads = 2, .kv_heads = 2},
};

template <class Check>
void for_all_plans(Check&& check) {
  for (const ModelSizes& sizes : kModels) {
    for (int ranks = 1; ranks <= 40; ++ranks) {
      for (const Reduction reduction : {Reduction::invariant, Reduction::fast}) {
        SCOPED_TRACE(
            concat(sizes.heads, " heads, ", ranks, " ranks, ", reduction == Reduction::fast ? "fast" : "invariant"));
        check(ShardPlan(sizes, ranks, reduction));
      }
    }
  }
}

void expect_partition(const ShardPlan& plan, Range (ShardPlan::*part)(int) const, int64_t total) {
  int64_t end = 0;
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    const Range range = (plan.*part)(rank);
    EXPECT_EQ(range.begin, end) << "rank " << rank;
    EXPECT_GE(range.size(), 0) << "rank " << rank;
    end = range.end;
  }
  EXPECT_EQ(end, total);
}

TEST(ShardPlan, RanksPartitionEverything) {
  for_all_plans([](const ShardPlan& plan) {
    expect_partition(plan, &ShardPlan::heads, plan.sizes().heads);
    expect_partition(plan, &ShardPlan::vocab, plan.sizes().vocab);
    expect_partition(plan, &ShardPlan::neurons, plan.sizes().neurons);
    expect_partition(plan, &ShardPlan::fold_inputs, plan.sizes().hidden);
    expect_partition(plan, &ShardPlan::ffn_leaves, plan.ffn_exchange().leaves);
  });
}

TEST(ShardPlan, FoldInputsAreWholeGroups) {
  for_all_plans([](const ShardPlan& plan) {
    for (int rank = 0; rank < plan.ranks(); ++rank) {
      const Range inputs = plan.fold_inputs(rank);
      for (const int64_t offset : plan.fold_offsets(rank)) {
        EXPECT_TRUE(offset % kGroup == 0 || inputs.begin + offset == plan.sizes().hidden);
      }
    }
  });
}

TEST(ShardPlan, NeuronsAreWholeUnitsWhereTheyShareScales) {
  ModelSizes sizes = kModels[0];
  for (int64_t neurons : {130, 1536, 11008}) {
    sizes.neurons = neurons;
    sizes.neuron_unit = 64;
    for (int ranks : {1, 2, 3, 7}) {
      const ShardPlan plan(sizes, ranks, Reduction::invariant);
      int64_t covered = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Range range = plan.neurons(rank);
        EXPECT_EQ(range.begin, covered);
        EXPECT_EQ(range.begin % 64, 0);
        for (int64_t offset : plan.neuron_offsets(rank)) EXPECT_TRUE(offset % 64 == 0 || offset == range.size());
        covered = range.end;
      }
      EXPECT_EQ(covered, neurons);
    }
  }
}

TEST(ShardPlan, OffsetsGoFromZeroToTheEndOfTheRanksShareWithOneLeafAVirtualShard) {
  for_all_plans([](const ShardPlan& plan) {
    for (int rank = 0; rank < plan.ranks(); ++rank) {
      for (const auto& [offsets, size] : {std::pair(plan.neuron_offsets(rank), plan.neurons(rank).size()),
                                          std::pair(plan.fold_offsets(rank), plan.fold_inputs(rank).size())}) {
        ASSERT_EQ(int64_t(offsets.size()), plan.ffn_leaves(rank).size() + 1);
        EXPECT_EQ(offsets.front(), 0);
        EXPECT_EQ(offsets.back(), size);
        EXPECT_TRUE(std::is_sorted(offsets.begin(), offsets.end()));
      }
    }
  });
}

TEST(ShardPlan, TheNodesOfARankAreExactlyItsLeaves) {
  for_all_plans([](const ShardPlan& plan) {
    for (int rank = 0; rank < plan.ranks(); ++rank) {
      for (const auto& [exchange, leaves] : {std::pair(&plan.attention_exchange(), plan.heads(rank)),
                                             std::pair(&plan.ffn_exchange(), plan.ffn_leaves(rank))}) {
        int64_t end = leaves.begin;
        for (const TreeNode& node : exchange->nodes[rank]) {
          EXPECT_EQ(node.begin, end);
          end = node.end;
        }
        EXPECT_EQ(end, leaves.end);
      }
    }
  });
}

TEST(ShardPlan, VirtualShardsDoNotMoveWithTheNumberOfRanks) {
  for (const ModelSizes& sizes : kModels) {
    const ShardPlan alone(sizes, 1, Reduction::invariant);
    for (int ranks = 2; ranks <= 40; ++ranks) {
      const ShardPlan plan(sizes, ranks, Reduction::invariant);
      for (int rank = 0; rank < ranks; ++rank) {
        const int64_t first = plan.ffn_leaves(rank).begin;
        const std::vector<int64_t> offsets = plan.neuron_offsets(rank), all = alone.neuron_offsets(0);
        for (size_t i = 0; i < offsets.size(); ++i) EXPECT_EQ(plan.neurons(rank).begin + offsets[i], all[first + i]);
      }
    }
  }
}

TEST(ShardPlan, EveryQueryHeadFindsItsKeyValueHead) {
  for_all_plans([](const ShardPlan& plan) {
    const int64_t group = plan.sizes().heads / plan.sizes().kv_heads;
    for (int rank = 0; rank < plan.ranks(); ++rank) {
      const Range query = plan.heads(rank), kv = plan.kv_heads(rank);
      EXPECT_EQ(query.size() == 0, kv.size() == 0);
      for (int64_t head = query.begin; head < query.end; ++head) {
        EXPECT_TRUE(kv.begin <= head / group && head / group < kv.end);
      }
    }
  });
}

TEST(ShardPlan, APowerOfTwoOfRanksSendsOneSumEach) {
  for (const int ranks : {1, 2, 4, 8, 16, 32}) {
    const ShardPlan plan(kModels[0], ranks, Reduction::invariant);
    for (const auto& nodes : plan.ffn_exchange().nodes) EXPECT_EQ(nodes.size(), 1u) << ranks;
  }
  for_all_plans([](const ShardPlan& plan) {
    if (plan.reduction() == Reduction::fast) {
      EXPECT_EQ(plan.ffn_exchange().most_nodes, 1);
    }
  });
}

bool mentions(const ShardPlan& plan, const std::string& words) {
  const std::vector<std::string> notes = plan.notes();
  return std::any_of(notes.begin(), notes.end(),
                     [&](const std::string& note) { return note.find(words) != std::string::npos; });
}

TEST(ShardPlan, SaysWhatCannotBeSplit) {
  EXPECT_TRUE(ShardPlan(kModels[3], 8, Reduction::invariant).notes().empty());
  EXPECT_TRUE(mentions(ShardPlan(kModels[0], 2, Reduction::invariant), "25 heads do not divide by 2 ranks"));
  EXPECT_TRUE(mentions(ShardPlan(kModels[2], 7, Reduction::invariant), "2 of 7 ranks hold no attention"));
  EXPECT_TRUE(mentions(ShardPlan(kModels[0], 40, Reduction::invariant), "8 of 40 ranks hold no FFN"));
  EXPECT_TRUE(mentions(ShardPlan(kModels[1], 2, Reduction::invariant), "key-value heads are held by several ranks"));
}

TEST(ShardPlan, RefusesWhatIsImpossible) {
  EXPECT_THROW(ShardPlan(kModels[0], 0, Reduction::invariant), Error);
  EXPECT_THROW(ShardPlan(kModels[4], 65, Reduction::invariant), Error);
  EXPECT_THROW(ShardPlan({.hidden = 8, .vocab = 8, .neurons = 8, .heads = 6, .kv_heads = 4}, 1, Reduction::fast),
               Error);
}

}  // namespace
}  // namespace pleat
