#include "kernels/cuda/leaves.h"

#include "kernels/cuda/leaf_stack.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256;

// Appends what comes after each leaf of the node; returns how many sums there are at most, the newest included.
int append(TreeNode node, std::vector<uint8_t>& after) {
  if (node.leaves() == 1) {
    after.push_back(0);
    return 1;
  }
  const int left = append({node.begin, node.middle()}, after);
  const int right = 1 + append({node.middle(), node.end}, after);
  ++after.back();
  return std::max(left, right);
}

// A thread an element.
__global__ void __launch_bounds__(kThreads)
    sum_leaves_kernel(Leaves leaves, const float* of_leaves, const float* parts, int n, float* nodes) {
  const int i = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (i >= n) return;
  LeafStack stack;
  float* to = nodes + i;
  for (int leaf = 0; leaf < leaves.count; ++leaf) {
    float sum = of_leaves != nullptr ? of_leaves[int64_t(leaf) * n + i] : 0.0f;
    for (int part = leaves.offsets[leaf]; part < leaves.offsets[leaf + 1]; ++part) sum += parts[int64_t(part) * n + i];
    float node = 0;
    if (!stack.push(sum, leaves.after[leaf], node)) continue;
    *to = node;
    to += n;
  }
}

}  // namespace

DeviceLeaves::DeviceLeaves(std::span<const int32_t> offsets, std::span<const TreeNode> nodes, int first_leaf,
                           const Stream& stream)
    : nodes_(int(nodes.size())), offsets_(offsets, stream) {
  std::vector<uint8_t> after;
  for (const TreeNode& node : nodes) {
    PLEAT_ASSERT(node.begin == first_leaf + int(after.size()), "a node from leaf ", node.begin);
    pending_ = std::max(pending_, append(node, after) - 1);
    PLEAT_REQUIRE(pending_ <= Leaves::kMaxPending, "a tree of at most ", Leaves::kMaxPending, " levels");
    after.back() |= Leaves::kEnds;
  }
  PLEAT_ASSERT(after.size() + 1 == offsets.size(), after.size(), " leaves, ", offsets.size(), " offsets");
  after_ = {std::span<const uint8_t>(after), stream};
  alone_ = {std::span<const uint8_t>(std::vector<uint8_t>(after.size(), Leaves::kEnds)), stream};
}

Leaves DeviceLeaves::view() const { return {offsets_.data(), after_.data(), int(after_.size()), nodes_, pending_}; }
Leaves DeviceLeaves::each_alone() const {
  return {offsets_.data(), alone_.data(), int(alone_.size()), int(alone_.size())};
}

void sum_leaves(cudaStream_t stream, const Leaves& leaves, const float* of_leaves, const float* parts, int n,
                float* nodes) {
  if (leaves.count == 0) return;
  launch(sum_leaves_kernel, {unsigned((n + kThreads - 1) / kThreads), kThreads, 0, stream}, leaves, of_leaves, parts, n,
         nodes);
}

}  // namespace pleat::cuda
