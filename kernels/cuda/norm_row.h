#pragma once
// One row of norm.h by one block. Included by .cu files only.
#include "kernels/cuda/norm.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {

constexpr int kNormThreads = 256;  // of the block; another number adds in another order

// y = norm(residual), both [d]. All threads of the block must call it; a thread reads the columns threadIdx.x,
// threadIdx.x + kNormThreads, ... The mean is taken off before squares are summed, as the CPU does.
__device__ inline void norm_row(int d, const Norm& norm, const float* residual, float* y) {
  if (norm.weight == nullptr) {
    for (int i = int(threadIdx.x); i < d; i += kNormThreads) y[i] = residual[i];
    return;
  }
  float sum = 0;
  for (int i = int(threadIdx.x); i < d; i += kNormThreads) sum += residual[i];
  const float mean = norm.centred ? block_sum(sum) / float(d) : 0.0f;
  float squares = 0;
  for (int i = int(threadIdx.x); i < d; i += kNormThreads) squares += (residual[i] - mean) * (residual[i] - mean);
  const float scale = 1.0f / sqrtf(block_sum(squares) / float(d) + norm.eps);
  for (int i = int(threadIdx.x); i < d; i += kNormThreads) {
    const float value = (residual[i] - mean) * scale * norm.weight[i];
    y[i] = norm.bias != nullptr ? value + norm.bias[i] : value;
  }
}

}  // namespace pleat::cuda
