#pragma once
// The stack machine of leaves.h for one element of the sum. Included by .cu files only.
#include "device_language.h"
#include "kernels/cuda/leaves.h"

namespace pleat::cuda {

class LeafStack {
 public:
  // The next leaf's sum. True: a node is complete, which is `node`.
  __device__ bool push(float leaf, uint8_t after, float& node) {
    for (int adds = after & Leaves::kAdds; adds > 0; --adds) leaf = pending_[--count_] + leaf;
    node = leaf;
    if (after & Leaves::kEnds) return true;
    pending_[count_++] = leaf;
    return false;
  }

 private:
  float pending_[Leaves::kMaxPending];
  int count_ = 0;
};

}  // namespace pleat::cuda
