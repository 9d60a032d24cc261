#pragma once
// Products of one row of weights with a few rows of x, by the lanes of a warp. Included by .cu files only.
#include "device_language.h"
#include "kernels/cuda/low_bit_codes.h"
#include "kernels/cuda/row_input.h"
#include "kernels/cuda/row_part.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {

// sum[r] += the part's product with row r of x: every `step`-th group, then every `step`-th protected input. A part
// begins with a group, or is empty.
template <int kRows>
__device__ void add_low_bit_dots(const Rows& w, const unsigned char* row, const RowInput& in, const Part& part,
                                 float (&sum)[kRows]) {
  const LowBitScales scales(w, row, w.bits, in.groups());
  for (int group = (part.begin + 63) / 64 + part.first; group * 64 < part.end; group += part.step) {
    constexpr int kAhead = 3;  // groups of this lane that are on their way to the L2 cache
    if (const int next = group + kAhead * part.step; next * 64 < part.end) prefetch(row + int64_t(next) * 8 * w.bits);
    const float scale = scales.scale(group), minimum = scales.minimum(group);
    int codes[16];
    load_codes(row + int64_t(group) * 8 * w.bits, w.bits, codes);
    if (w.planes) look_up(scales.sums(group), codes);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= in.rows) break;
      int dot = 0;
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const int4 four = *reinterpret_cast<const int4*>(in.quad(r, t, group));
        dot = __dp4a(codes[2 * t + 9], four.w, __dp4a(codes[2 * t + 8], four.z, dot));
        dot = __dp4a(codes[2 * t + 1], four.y, __dp4a(codes[2 * t], four.x, dot));
      }
      const int at = r * in.group_stride + group;
      sum[r] = fmaf(in.scales[at], fmaf(scale, float(dot), minimum * float(in.sums[at])), sum[r]);
    }
  }
  for (int i = part.first; i < w.protected_input_count; i += part.step) {
    const int input = w.protected_inputs[i];
    if (input < part.begin || input >= part.end) continue;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (r < in.rows)
        sum[r] = fmaf(in.x[int64_t(r) * in.x_stride + input], from_bf16(scales.protected_weights[i]), sum[r]);
  }
}

// Lanes take four neighbours at a time.
template <int kRows>
__device__ void add_f32_dots(const float* row, const RowInput& in, const Part& part, float (&sum)[kRows]) {
  const bool aligned = part.begin % 4 == 0 && in.x_stride % 4 == 0 && reinterpret_cast<uintptr_t>(in.x) % 16 == 0;
  for (int k = part.begin + part.first * 4; k < part.end; k += part.step * 4) {
    const bool whole = aligned && k + 4 <= part.end;
    const auto four = [&](const float* from) {
      if (whole) return *reinterpret_cast<const float4*>(from + k);
      return float4{from[k], k + 1 < part.end ? from[k + 1] : 0, k + 2 < part.end ? from[k + 2] : 0,
                    k + 3 < part.end ? from[k + 3] : 0};
    };
    const float4 weights = four(row);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= in.rows) break;
      const float4 x = four(in.x + int64_t(r) * in.x_stride);
      sum[r] = fmaf(x.w, weights.w, fmaf(x.z, weights.z, fmaf(x.y, weights.y, fmaf(x.x, weights.x, sum[r]))));
    }
  }
}

// sum[r] = the part's product of row `index` of w, in f32 or low bits, with row r of x.   in.rows <= kRows
template <int kRows>
__device__ void part_dots(const Rows& w, int index, const RowInput& in, const Part& part, float (&sum)[kRows]) {
  const unsigned char* const row = w.data + index * w.stride;
#pragma unroll
  for (int r = 0; r < kRows; ++r) sum[r] = 0;
  if (w.bits == 32)
    add_f32_dots(reinterpret_cast<const float*>(row), in, part, sum);
  else
    add_low_bit_dots(w, row, in, part, sum);
}

// sum[r] = row `index` of w times row r of x, in every lane.   in.rows <= kRows; all lanes of the warp must call it.
template <int kRows>
__device__ void row_dots(const Rows& w, int index, const RowInput& in, float (&sum)[kRows]) {
  part_dots(w, index, in, {0, in.width, int(threadIdx.x) % kWarp, kWarp}, sum);
#pragma unroll
  for (int r = 0; r < kRows; ++r) sum[r] = warp_sum(sum[r]);
}

// A kernel templated over the number of rows it has registers for: calls use(integral constant) with the smallest of 1,
// 4 and 16 that is enough.
template <class Use>
void with_row_capacity(int rows, Use use) {
  if (rows <= 1) return use(std::integral_constant<int, 1>());
  if (rows <= 4) return use(std::integral_constant<int, 4>());
  use(std::integral_constant<int, 16>());
}

}  // namespace pleat::cuda
