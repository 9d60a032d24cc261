#include <algorithm>

#include "kernels/context.h"
#include "kernels/neuron_rows.h"

namespace pleat {
namespace {

constexpr int64_t kChunk = 1024;

// `leaves` is this chunk of leaf 0; from leaf to leaf it is `stride` elements.
void tree_sum(const float* leaves, int64_t stride, TreeNode node, int64_t count, float* out) {
  const float* first = leaves + node.begin * stride;
  if (node.leaves() == 1) {
    std::copy_n(first, count, out);
  } else if (node.leaves() == 2) {
    for (int64_t i = 0; i < count; ++i) out[i] = first[i] + first[stride + i];
  } else {
    float right[kChunk];
    tree_sum(leaves, stride, {node.begin, node.middle()}, count, out);
    tree_sum(leaves, stride, {node.middle(), node.end}, count, right);
    for (int64_t i = 0; i < count; ++i) out[i] += right[i];
  }
}

}  // namespace

void reduce_leaves(Context& ctx, const float* leaves, int first_leaf, const std::vector<TreeNode>& nodes, int64_t n,
                   float* out) {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  ctx.team().each(chunks * int64_t(nodes.size()), [&](int, int64_t task) {
    const int64_t node = task / chunks, begin = task % chunks * kChunk;
    // Children stand at begin + (leaves + 1) / 2: shifting a node keeps its tree.
    const TreeNode here{nodes[node].begin - first_leaf, nodes[node].end - first_leaf};
    tree_sum(leaves + begin, n, here, std::min(kChunk, n - begin), out + node * n + begin);
  });
}

}  // namespace pleat
