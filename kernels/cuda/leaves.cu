#include "kernels/cuda/leaves.h"

#include "kernels/cuda/leaf_rounds.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256, kColumns = 32, kWarps = kThreads / kColumns;

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

// Appends the node's pairs to their rounds; returns the round in which its sum is there.   origin: the first leaf's
// number
int append(TreeNode node, int origin, std::vector<std::vector<Leaves::Pair>>& rounds) {
  if (node.leaves() == 1) return 0;
  const int left = append({node.begin, node.middle()}, origin, rounds);
  const int round = std::max(left, append({node.middle(), node.end}, origin, rounds));
  if (size_t(round) == rounds.size()) rounds.emplace_back();
  rounds[size_t(round)].push_back({uint16_t(node.begin - origin), uint16_t(node.middle() - origin)});
  return round + 1;
}

// A block kColumns elements; its warps share out the leaves.
__global__ void __launch_bounds__(kThreads)
    sum_leaves_kernel(Leaves leaves, const float* of_leaves, const float* parts, int n, float* nodes) {
  let_next_start();
  wait_for_previous();
  float* const value = dynamic_shared<float>();  // [leaves][kColumns]
  const int warp = int(threadIdx.x) / kColumns, lane = int(threadIdx.x) % kColumns;
  const int column = int(blockIdx.x) * kColumns + lane;
  for (int leaf = warp; leaf < leaves.count && column < n; leaf += kWarps) {
    float sum = of_leaves != nullptr ? of_leaves[int64_t(leaf) * n + column] : 0.0f;
    for (int part = leaves.offsets[leaf]; part < leaves.offsets[leaf + 1]; ++part)
      sum += parts[int64_t(part) * n + column];
    value[leaf * kColumns + lane] = sum;
  }
  add_up_leaves(leaves, value, kColumns);
  for (int node = warp; node < leaves.nodes && column < n; node += kWarps)
    nodes[int64_t(node) * n + column] = value[first_of(leaves, node) * kColumns + lane];
}

}  // namespace

DeviceLeaves::DeviceLeaves(std::span<const int32_t> offsets, std::span<const TreeNode> nodes, int first_leaf,
                           const Stream& stream)
    : nodes_(int(nodes.size())), offsets_(offsets, stream) {
  std::vector<uint8_t> after;
  std::vector<std::vector<Leaves::Pair>> rounds;
  std::vector<int32_t> first;
  for (const TreeNode& node : nodes) {
    PLEAT_ASSERT(node.begin == first_leaf + int(after.size()), "a node from leaf ", node.begin);
    first.push_back(node.begin - first_leaf);
    pending_ = std::max(pending_, append(node, after) - 1);
    PLEAT_REQUIRE(pending_ <= Leaves::kMaxPending, "a tree of at most ", Leaves::kMaxPending, " levels");
    after.back() |= Leaves::kEnds;
    append(node, first_leaf, rounds);
  }
  PLEAT_ASSERT(after.size() + 1 == offsets.size(), after.size(), " leaves, ", offsets.size(), " offsets");
  std::vector<Leaves::Pair> pairs;
  std::vector<int32_t> starts = {0};
  for (const std::vector<Leaves::Pair>& round : rounds) {
    pairs.insert(pairs.end(), round.begin(), round.end());
    starts.push_back(int32_t(pairs.size()));
  }
  after_ = {std::span<const uint8_t>(after), stream};
  alone_ = {std::span<const uint8_t>(std::vector<uint8_t>(after.size(), Leaves::kEnds)), stream};
  pairs_ = {std::span<const Leaves::Pair>(pairs), stream};
  rounds_ = {std::span<const int32_t>(starts), stream};
  first_ = {std::span<const int32_t>(first), stream};
}

Leaves DeviceLeaves::view() const {
  return {offsets_.data(), after_.data(),  int(after_.size()),      nodes_,       pending_,
          pairs_.data(),   rounds_.data(), int(rounds_.size()) - 1, first_.data()};
}
Leaves DeviceLeaves::each_alone() const {
  return {offsets_.data(), alone_.data(), int(alone_.size()), int(alone_.size())};
}

void sum_leaves(cudaStream_t stream, const Leaves& leaves, const float* of_leaves, const float* parts, int n,
                float* nodes) {
  if (leaves.count == 0) return;
  const size_t shared = size_t(leaves.count) * kColumns * sizeof(float);
  launch_overlapping(sum_leaves_kernel, {unsigned((n + kColumns - 1) / kColumns), kThreads, shared, stream}, leaves,
                     of_leaves, parts, n, nodes);
}

}  // namespace pleat::cuda
