#pragma once
// What kernels share: rounding to bf16, sums over the threads of a warp and of a block in a fixed order, and a warp's
// largest number. Included by .cu files only.
#include "device_language.h"

namespace pleat::cuda {

constexpr int kWarp = 32;

__device__ inline float rounded_to_bf16(float value) { return __bfloat162float(__float2bfloat16_rn(value)); }

// The sum over all lanes, in every lane.
template <class T>
__device__ T warp_sum(T value) {
  for (int with = kWarp / 2; with > 0; with /= 2) value += __shfl_xor_sync(~0u, value, with);
  return value;
}

// The sum of eight numbers `stride` apart, in the order in which eight lanes add them up by shuffles.
__device__ inline float sum_of_eight(const float* value, int stride) {
  const auto pair = [&](int i) { return value[i * stride] + value[(i + 4) * stride]; };
  return ((pair(0) + pair(2)) + (pair(1) + pair(3)));
}

// The largest over all lanes, in every lane.
__device__ inline float warp_max(float value) {
  for (int with = kWarp / 2; with > 0; with /= 2) value = fmaxf(value, __shfl_xor_sync(~0u, value, with));
  return value;
}

// The sum over all threads of a block of whole warps, in every thread. All threads must call it.
__device__ inline float block_sum(float value) {
  __shared__ SharedArray<float, kWarp> sums;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, warps = int(blockDim.x) / kWarp;
  value = warp_sum(value);
  __syncthreads();  // the sums of a call before have been read
  if (lane == 0) sums[warp] = value;
  __syncthreads();
  return warp_sum(lane < warps ? sums[lane] : 0.0f);
}

}  // namespace pleat::cuda
