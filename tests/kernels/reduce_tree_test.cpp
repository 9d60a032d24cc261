#include "kernels/reduce_tree.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/check.h"

namespace pleat {
namespace {

TEST(ReduceTree, CoverIsTheRangeInOrderAndOnlyNodesOfTheTree) {
  for (int leaves : {1, 2, 5, 25, 32}) {
    std::vector<TreeNode> all;
    const auto collect = [&](auto& self, TreeNode node) -> void {
      all.push_back(node);
      if (node.leaves() == 1) return;
      self(self, {node.begin, node.middle()});
      self(self, {node.middle(), node.end});
    };
    collect(collect, {0, leaves});
    for (int begin = 0; begin <= leaves; ++begin) {
      for (int end = begin; end <= leaves; ++end) {
        int at = begin;
        for (const TreeNode& node : cover(leaves, begin, end)) {
          EXPECT_EQ(node.begin, at);
          EXPECT_NE(std::find(all.begin(), all.end(), node), all.end());
          at = node.end;
        }
        EXPECT_EQ(at, end);
      }
    }
  }
}

TEST(ReduceTree, RanksInPowersOfTwoOwnOneNodeEach) {
  for (int ranks : {1, 2, 4, 8, 16, 32}) {
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(cover(32, first_leaf(32, ranks, rank), first_leaf(32, ranks, rank + 1)).size(), 1u);
    }
  }
}

TEST(ReduceTree, FinishingFromAnyCutGivesTheBitsOfAllLeaves) {
  const int leaves = 25;
  const int64_t n = 600;
  std::vector<std::vector<float>> leaf(leaves, std::vector<float>(n));
  for (int i = 0; i < leaves; ++i) {
    for (int64_t j = 0; j < n; ++j) leaf[i][j] = float((i * 7919 + j * 104729) % 1000) / 7.0f - 50.0f;
  }
  const auto sum_of = [&](auto& self, TreeNode node, int64_t j) -> float {
    if (node.leaves() == 1) return leaf[node.begin][j];
    return self(self, {node.begin, node.middle()}, j) + self(self, {node.middle(), node.end}, j);
  };
  for (int cut = 0; cut <= leaves; ++cut) {
    std::vector<TreeNode> nodes = cover(leaves, 0, cut);
    for (const TreeNode& node : cover(leaves, cut, leaves)) nodes.push_back(node);
    std::vector<std::vector<float>> sums;
    for (const TreeNode& node : nodes) {
      sums.emplace_back(n);
      for (int64_t j = 0; j < n; ++j) sums.back()[j] = sum_of(sum_of, node, j);
    }
    std::vector<const float*> values;
    for (const auto& sum : sums) values.push_back(sum.data());
    finish_tree(leaves, nodes, values, n, sums[0].data());  // in place
    for (int64_t j = 0; j < n; ++j) ASSERT_EQ(sums[0][j], sum_of(sum_of, {0, leaves}, j)) << cut << " " << j;
  }
}

TEST(ReduceTree, RefusesNodesWithAGap) {
  float value = 1;
  EXPECT_THROW(finish_tree(4, {{0, 2}, {3, 4}}, {&value, &value}, 1, &value), Error);
}

}  // namespace
}  // namespace pleat
