#include <gtest/gtest.h>

#include <functional>

#include "kernels/neuron_rows.h"
#include "vectors.h"

namespace pleat {
namespace {

TEST(Selection, StartsEmptyAndCountsTheRowsOfItsMasks) {
  Selection selection({0, 3, 3, 8});
  EXPECT_EQ(selection.count(), 0);
  EXPECT_EQ(selection.row_count(0), 0);
  selection.neuron = {1, 2, 7};
  selection.rows = {0b01, 0b11, 0x80000000u};
  selection.leaf_begin = {0, 2, 2, 3};
  EXPECT_EQ(selection.count(), 3);
  EXPECT_EQ(selection.row_count(0), 2);
  EXPECT_EQ(selection.row_count(1), 1);
  EXPECT_EQ(selection.row_count(31), 1);
  selection.clear();
  EXPECT_EQ(selection.count(), 0);
  EXPECT_EQ(selection.row_count(0), 0);
}

TEST(ReduceLeaves, AddsInTheOrderOfTheTree) {
  const int leaf_count = 13, first = 3, end = 11;
  const int64_t n = 2500;
  const std::vector<float> leaves = random_floats(size_t((end - first) * n), 1);
  const std::vector<TreeNode> nodes = cover(leaf_count, first, end);
  const std::function<float(TreeNode, int64_t)> sum = [&](TreeNode node, int64_t i) -> float {
    if (node.leaves() == 1) return leaves[(node.begin - first) * n + i];
    return sum({node.begin, node.middle()}, i) + sum({node.middle(), node.end}, i);
  };
  for (int threads : {1, 2, 3}) {
    Context ctx(threads, true);
    std::vector<float> out(nodes.size() * n);
    reduce_leaves(ctx, leaves.data(), first, nodes, n, out.data());
    for (size_t node = 0; node < nodes.size(); ++node)
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(out[node * n + i], sum(nodes[node], i)) << node << ", " << i;
  }
}

TEST(ReduceLeaves, OfNodesThenFinishedGivesTheSameBitsForEverySplit) {
  const int leaf_count = 32;
  const int64_t n = 70;
  const std::vector<float> leaves = random_floats(size_t(leaf_count * n), 1);
  Context ctx(1, false);
  std::vector<float> whole(n);
  reduce_leaves(ctx, leaves.data(), 0, {{0, leaf_count}}, n, whole.data());
  for (int ranks : {2, 3, 5}) {
    std::vector<TreeNode> nodes;
    std::vector<float> sums;
    for (int rank = 0; rank < ranks; ++rank) {
      const int begin = first_leaf(leaf_count, ranks, rank);
      const std::vector<TreeNode> own = cover(leaf_count, begin, first_leaf(leaf_count, ranks, rank + 1));
      std::vector<float> out(own.size() * n);
      reduce_leaves(ctx, leaves.data() + begin * n, begin, own, n, out.data());
      nodes.insert(nodes.end(), own.begin(), own.end());
      sums.insert(sums.end(), out.begin(), out.end());
    }
    std::vector<const float*> values;
    for (size_t node = 0; node < nodes.size(); ++node) values.push_back(sums.data() + node * n);
    std::vector<float> out(n);
    finish_tree(leaf_count, nodes, values, n, out.data());
    EXPECT_TRUE(same_bits(out, whole)) << ranks << " ranks";
  }
}

}  // namespace
}  // namespace pleat
