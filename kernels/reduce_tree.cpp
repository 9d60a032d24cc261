#include "kernels/reduce_tree.h"

#include <algorithm>

#include "kernels/check.h"

namespace pleat {
namespace {

void add_cover(TreeNode node, int begin, int end, std::vector<TreeNode>& nodes) {
  if (end <= node.begin || node.end <= begin) return;
  if (begin <= node.begin && node.end <= end) {
    nodes.push_back(node);
    return;
  }
  add_cover({node.begin, node.middle()}, begin, end, nodes);
  add_cover({node.middle(), node.end}, begin, end, nodes);
}

constexpr int64_t kBlock = 256;

// Walks the tree from left to right; `nodes` are met in their ascending order.
struct Walk {
  const std::vector<TreeNode>& nodes;
  const float* const* values;
  int64_t offset;
  int64_t n;
  size_t next = 0;

  // The node's sum over elements [offset, offset + n): a given value in place, or computed into `into`.
  const float* sum(TreeNode node, float* into) {
    if (next < nodes.size() && nodes[next] == node) return values[next++] + offset;
    PLEAT_ASSERT(node.leaves() > 1, "nodes do not cover leaf ", node.begin);
    float right_sum[kBlock];
    const float* left = sum({node.begin, node.middle()}, into);
    const float* right = sum({node.middle(), node.end}, right_sum);
    for (int64_t i = 0; i < n; ++i) into[i] = left[i] + right[i];
    return into;
  }
};

void finish_block(int leaves, const std::vector<TreeNode>& nodes, const float* const* values, int64_t offset,
                  int64_t count, float* out) {
  Walk walk{nodes, values, offset, count};
  const float* sum = walk.sum({0, leaves}, out);
  PLEAT_ASSERT(walk.next == nodes.size(), "nodes overlap or are not in order");
  if (sum != out) std::copy_n(sum, count, out);
}

}  // namespace

std::vector<TreeNode> cover(int leaves, int begin, int end) {
  std::vector<TreeNode> nodes;
  if (begin < end) add_cover({0, leaves}, begin, end, nodes);
  return nodes;
}

void finish_tree(int leaves, const std::vector<TreeNode>& nodes, const std::vector<const float*>& values, int64_t n,
                 float* out) {
  PLEAT_ASSERT(nodes.size() == values.size());
  for (int64_t offset = 0; offset < n; offset += kBlock)
    finish_block(leaves, nodes, values.data(), offset, std::min(kBlock, n - offset), out + offset);
}

void finish_trees(const std::vector<FinishTree>& trees, const std::vector<const float*>& values, int64_t n,
                  float* out) {
  for (int64_t offset = 0; offset < n; offset += kBlock) {
    const int64_t count = std::min(kBlock, n - offset);
    const float* const* next = values.data();
    for (const FinishTree& tree : trees) {
      float block[kBlock];
      finish_block(tree.leaves, tree.nodes, next, offset, count, &tree == trees.data() ? out + offset : block);
      for (int64_t i = 0; &tree != trees.data() && i < count; ++i) out[offset + i] += block[i];
      next += tree.nodes.size();
    }
    PLEAT_ASSERT(next == values.data() + values.size(), "as many values as nodes");
  }
}

}  // namespace pleat
