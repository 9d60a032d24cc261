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
  const std::vector<const float*>& values;
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

}  // namespace

std::vector<TreeNode> cover(int leaves, int begin, int end) {
  std::vector<TreeNode> nodes;
  if (begin < end) add_cover({0, leaves}, begin, end, nodes);
  return nodes;
}

void finish_tree(int leaves, const std::vector<TreeNode>& nodes, const std::vector<const float*>& values, int64_t n,
                 float* out) {
  PLEAT_ASSERT(nodes.size() == values.size());
  for (int64_t offset = 0; offset < n; offset += kBlock) {
    Walk walk{nodes, values, offset, std::min(kBlock, n - offset)};
    const float* sum = walk.sum({0, leaves}, out + offset);
    PLEAT_ASSERT(walk.next == nodes.size(), "nodes overlap or are not in order");
    if (sum != out + offset) std::copy_n(sum, walk.n, out + offset);
  }
}

}  // namespace pleat
