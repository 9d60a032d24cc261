#pragma once
// A block's sums of leaves, all pairs of a round side by side (leaves.h). Included by .cu files only.
#include "device_language.h"
#include "kernels/cuda/leaves.h"

namespace pleat::cuda {

// value [leaves.count][n] in shared memory, which any thread may have written: afterwards node j's sums are at
// first_of(leaves, j). All threads of the block call it.
__device__ inline void add_up_leaves(const Leaves& leaves, float* value, int n) {
  __syncthreads();
  for (int round = 0; round < leaves.round_count; ++round) {
    const int begin = leaves.rounds[round], sums = (leaves.rounds[round + 1] - begin) * n;
    for (int i = int(threadIdx.x); i < sums; i += int(blockDim.x)) {
      const Leaves::Pair pair = leaves.pairs[begin + i / n];
      value[pair.left * n + i % n] += value[pair.right * n + i % n];
    }
    __syncthreads();
  }
}
__device__ inline int first_of(const Leaves& leaves, int node) {
  return leaves.first != nullptr ? leaves.first[node] : node;
}

}  // namespace pleat::cuda
