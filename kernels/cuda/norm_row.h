#pragma once
// One row of norm.h by one block. Included by .cu files only.
#include <algorithm>

#include "kernels/cuda/floats.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {

// A row is added up in so many sums, each by a warp: sum s has the kWidth neighbouring columns from kWidth (32 s +
// lane) on for every lane, then those kNormSums warps further on. So how it is ordered does not depend on the block's
// size.
constexpr int kNormSums = 32;
using NormSums = SharedArray<float, 2 * kNormSums>;

// How many of the sums have columns.
__host__ __device__ inline int norm_sums(int d, int width) {
  const int sums = (d + kWarp * width - 1) / (kWarp * width);
  return sums < kNormSums ? sums : kNormSums;
}

// Threads of a block that has a row for itself, where rows are few: a warp a sum.
inline int norm_threads(int d, int width) { return norm_sums(d, width) * kWarp; }

// each(first of kWidth columns) of one of the row's sums.
template <int kWidth, class Each>
__device__ void for_columns_of_sum(int d, int sum, Each each) {
  for (int i = (sum * kWarp + int(threadIdx.x) % kWarp) * kWidth; i < d; i += kNormSums * kWarp * kWidth) each(i);
}

// The same for all columns of the row that are the thread's.
template <int kWidth, class Each>
__device__ void for_columns_of_row(int d, Each each) {
  for (int sum = int(threadIdx.x) / kWarp; sum < norm_sums(d, kWidth); sum += int(blockDim.x) / kWarp)
    for_columns_of_sum<kWidth>(d, sum, each);
}

// The sum of what of(Floats<kWidth>, i) makes of the row's columns, in every thread.   sums: [kNormSums]
template <int kWidth, class Of>
__device__ float row_sum(int d, const float* row, float* sums, Of of) {
  const int count = norm_sums(d, kWidth), lane = int(threadIdx.x) % kWarp;
  for (int s = int(threadIdx.x) / kWarp; s < count; s += int(blockDim.x) / kWarp) {
    float sum = 0;
    for_columns_of_sum<kWidth>(d, s, [&](int i) {
      const auto x = Floats<kWidth>::load(row + i);
      for (int c = 0; c < kWidth; ++c) sum += of(x.at[c]);
    });
    sum = warp_sum(sum);
    if (lane == 0) sums[s] = sum;
  }
  __syncthreads();
  return warp_sum(lane < count ? sums[lane] : 0.0f);
}

// Asks for the norm's numbers before they are needed.
template <int kWidth>
__device__ void prefetch_norm(int d, const Norm& norm) {
  if (norm.weight == nullptr) return;
  for_columns_of_row<kWidth>(d, [&](int i) {
    prefetch(norm.weight + i);
    if (norm.bias != nullptr) prefetch(norm.bias + i);
  });
}

// y = norm(row), both [d]. All threads of the block must call it, with `sums` that no call before had; a thread reads
// its own columns of the row (for_columns_of_row). The mean is taken off before squares are summed, as the CPU does.
template <int kWidth>
__device__ void norm_row(int d, const Norm& norm, const float* row, float* y, NormSums& sums) {
  if (norm.weight == nullptr) {
    for_columns_of_row<kWidth>(d, [&](int i) { Floats<kWidth>::load(row + i).store(y + i); });
    return;
  }
  const float mean = norm.centred ? row_sum<kWidth>(d, row, sums.data(), [](float x) { return x; }) / float(d) : 0.0f;
  const float squares =
      row_sum<kWidth>(d, row, sums.data() + kNormSums, [&](float x) { return (x - mean) * (x - mean); });
  const float scale = 1.0f / sqrtf(squares / float(d) + norm.eps);
  for_columns_of_row<kWidth>(d, [&](int i) {
    auto x = Floats<kWidth>::load(row + i);
    const auto weight = Floats<kWidth>::load(norm.weight + i);
    for (int c = 0; c < kWidth; ++c) x.at[c] = (x.at[c] - mean) * scale * weight.at[c];
    if (norm.bias != nullptr) x = x + Floats<kWidth>::load(norm.bias + i);
    x.store(y + i);
  });
}

}  // namespace pleat::cuda
