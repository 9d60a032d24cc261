#pragma once
// Quantisation of a group of 64 inputs of x as kernels/low_bit.h says, by a warp. Included by .cu files only.
#include "kernels/cuda/sums.h"

namespace pleat::cuda {

struct QuantisedGroup {
  int word;  // lanes 0 to 15: word l, whose byte i is input 16 i + l
  float scale;
  int sum;
};

__device__ inline bool is_in(const int32_t* list, int count, int value) {
  for (int i = 0; i < count; ++i)
    if (list[i] == value) return true;
  return false;
}

// Of a row x [width]; inputs of the list [count], and those from `width` on, become 0. All lanes of the warp call it;
// scale and sum are in every lane.
__device__ inline QuantisedGroup quantise_group(const float* x, int width, int group, const int32_t* protected_inputs,
                                                int protected_count) {
  const int lane = int(threadIdx.x) % kWarp;
  float value[2];  // lane l holds the group's inputs l and 32 + l
  for (int half = 0; half < 2; ++half) {
    const int input = group * 64 + half * kWarp + lane;
    const bool counts = input < width && !is_in(protected_inputs, protected_count, input);
    value[half] = counts ? x[input] : 0.0f;
  }
  const bool odd = __any_sync(~0u, !isfinite(value[0]) || !isfinite(value[1]));
  const float step = odd ? NAN : warp_max(fmaxf(fabsf(value[0]), fabsf(value[1]))) / 127.0f;
  int q[2];
  // A subnormal step makes any quotient: it stays in range, as on the CPU.
  for (int half = 0; half < 2; ++half)
    q[half] = step > 0 ? int(rintf(fminf(fmaxf(value[half] / step, -127.0f), 127.0f))) : 0;
  const int sum = warp_sum(q[0] + q[1]);
  // Lane l has bytes 0 and 2 of word l, lane 16 + l bytes 1 and 3.
  const int halves = (q[0] & 0xff) | (q[1] & 0xff) << 16;
  return {halves | __shfl_down_sync(~0u, halves, 16) << 8, step, sum};
}

}  // namespace pleat::cuda
