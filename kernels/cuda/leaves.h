#pragma once
// A rank's leaves and nodes of a tree of sums (kernels/reduce_tree.h) on the device: what it adds up of its own before
// the ranks' nodes are added.
#include <cstdint>
#include <span>

#include "kernels/cuda/device.h"
#include "kernels/reduce_tree.h"

namespace pleat::cuda {

// What a kernel takes. The leaves in their order are a stack machine's program: each is put on the stack, then the two
// topmost sums are added, left + right, `after & kAdds` times; with kEnds the sum is then the next node's.
struct Leaves {
  static constexpr uint8_t kEnds = 0x80, kAdds = 0x7f;
  static constexpr int kMaxPending = 12;  // sums that wait for their right-hand side
  const int32_t* offsets = nullptr;       // [count + 1] first input, or bin, of each leaf, closed by the end
  const uint8_t* after = nullptr;         // [count]
  int count = 0, nodes = 0;
  int pending = 0;  // the most sums that wait at a time

  // The same additions by many threads side by side: in round i left += right for each of pairs [rounds[i],
  // rounds[i + 1]); then node j is where its first leaf was, first[j], or leaf j for nullptr.
  struct Pair {
    uint16_t left, right;
  };
  const Pair* pairs = nullptr;
  const int32_t* rounds = nullptr;  // [round_count + 1]
  int round_count = 0;
  const int32_t* first = nullptr;  // [nodes]
};

class DeviceLeaves {
 public:
  DeviceLeaves() = default;
  // offsets [leaves + 1]; nodes: ascending, together the leaves [first_leaf, first_leaf + leaves).
  DeviceLeaves(std::span<const int32_t> offsets, std::span<const TreeNode> nodes, int first_leaf, const Stream& stream);
  Leaves view() const;
  // The same leaves, each a node of its own.
  Leaves each_alone() const;

 private:
  int nodes_ = 0, pending_ = 0;
  DeviceArray<int32_t> offsets_, rounds_, first_;
  DeviceArray<uint8_t> after_, alone_;
  DeviceArray<Leaves::Pair> pairs_;
};

// nodes [leaves.nodes][n] = the tree sums of the leaves, a leaf's sum being its element of `of_leaves` [leaves][n], or
// 0 for nullptr, + its parts in order: parts [leaves.offsets[leaf], leaves.offsets[leaf + 1]) of [...][n].
void sum_leaves(StreamHandle stream, const Leaves& leaves, const float* of_leaves, const float* parts, int n,
                float* nodes);

}  // namespace pleat::cuda
