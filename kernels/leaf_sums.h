#pragma once
#include <cstdint>

#include "kernels/reduce_tree.h"

namespace pleat {

// into [n], n <= most: the tree sum of the node's leaves, leaf(global number, into) being one of them.
template <int64_t most, class Leaf>
void sum_leaves(TreeNode node, int64_t n, float* into, const Leaf& leaf) {
  if (node.leaves() == 1) return leaf(node.begin, into);
  alignas(64) float right[most];
  sum_leaves<most>({node.begin, node.middle()}, n, into, leaf);
  sum_leaves<most>({node.middle(), node.end}, n, right, leaf);
  for (int64_t i = 0; i < n; ++i) into[i] += right[i];
}

}  // namespace pleat
