#pragma once
// The fixed binary tree in which partial sums are added, whatever the number of ranks: floating-point addition is not
// associative, so the same bits on 1 or 7 ranks need the same order of additions everywhere.
#include <cstdint>
#include <vector>

namespace pleat {

// A node is a contiguous range of leaves. [begin, end) with more than one leaf has the children [begin, middle) and
// [middle, end), middle = begin + (end - begin + 1) / 2.
struct TreeNode {
  int begin = 0;
  int end = 0;
  int leaves() const { return end - begin; }
  int middle() const { return begin + (end - begin + 1) / 2; }
  bool operator==(const TreeNode&) const = default;
};

// The fewest nodes of the tree over [0, leaves) that together are the range [begin, end), ascending. Empty for an empty
// range.
std::vector<TreeNode> cover(int leaves, int begin, int end);

// First leaf of rank r of R: with R a power of two every rank then owns exactly one node. begin(R, R) == leaves.
inline int first_leaf(int leaves, int ranks, int rank) { return int((int64_t(leaves) * rank + ranks - 1) / ranks); }

// out[i] = the tree sum of nodes[j][i]; `nodes` covers [0, leaves) completely. n elements each; out may be nodes[0].
void finish_tree(int leaves, const std::vector<TreeNode>& nodes, const std::vector<const float*>& values, int64_t n,
                 float* out);

// A tree to finish: its nodes, ascending and complete.
struct FinishTree {
  int leaves = 0;
  std::vector<TreeNode> nodes;
  bool operator==(const FinishTree&) const = default;
};

// out[i] = the sum, in the order of `trees`, of what finish_tree gives each; values: the first tree's nodes, then the
// next one's.
void finish_trees(const std::vector<FinishTree>& trees, const std::vector<const float*>& values, int64_t n, float* out);

}  // namespace pleat
