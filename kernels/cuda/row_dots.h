#pragma once
// Products of one row of weights with a few rows of x, by the lanes of a warp. Included by .cu files only.
#include "device_language.h"
#include "kernels/cuda/low_bit_codes.h"
#include "kernels/cuda/row_input.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {

// Who adds up which inputs: lane `lane` of `lanes` takes its part of the inputs [begin, end).
struct Part {
  int begin, end;
  int lane, lanes;
};

// sum[r] += the part's product with row r of x: every `lanes`th group, then every `lanes`th protected input. A part
// begins with a group, or is empty.
template <int kRows>
__device__ void add_low_bit_dots(const Rows& w, const unsigned char* row, const RowInput& in, const Part& part,
                                 float (&sum)[kRows]) {
  const LowBitScales scales(w, row, w.bits, in.groups());
  for (int group = (part.begin + 63) / 64 + part.lane; group * 64 < part.end; group += part.lanes) {
    constexpr int kAhead = 3;  // groups of this lane that are on their way to the L2 cache
    if (const int next = group + kAhead * part.lanes; next * 64 < part.end) prefetch(row + int64_t(next) * 8 * w.bits);
    int codes[16];
    load_codes(row + int64_t(group) * 8 * w.bits, w.bits, codes);
    if (w.planes) look_up(scales.sums(group), codes);
    const float scale = scales.scale(group), minimum = scales.minimum(group);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= in.rows) break;
      const int4* const q = reinterpret_cast<const int4*>(in.words(r, group));
      int dot = 0;
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const int4 four = q[t];
        dot = __dp4a(codes[2 * t + 9], four.w, __dp4a(codes[2 * t + 8], four.z, dot));
        dot = __dp4a(codes[2 * t + 1], four.y, __dp4a(codes[2 * t], four.x, dot));
      }
      const int at = r * in.group_stride + group;
      sum[r] = fmaf(in.scales[at], fmaf(scale, float(dot), minimum * float(in.sums[at])), sum[r]);
    }
  }
  for (int i = part.lane; i < w.protected_input_count; i += part.lanes) {
    const int input = w.protected_inputs[i];
    if (input < part.begin || input >= part.end) continue;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (r < in.rows)
        sum[r] = fmaf(in.x[int64_t(r) * in.x_stride + input], from_bf16(scales.protected_weights[i]), sum[r]);
  }
}

// Eight neighbouring bf16 weights, two a word.
__device__ inline uint4 eight_weights(const uint16_t* from, bool aligned) {
  if (aligned) return *reinterpret_cast<const uint4*>(from);
  const auto pair = [&](int i) { return unsigned(from[i]) | unsigned(from[i + 1]) << 16; };
  return {pair(0), pair(2), pair(4), pair(6)};
}

// Lanes take eight inputs at a time, then the last ones.
template <int kRows>
__device__ void add_bf16_dots(const uint16_t* row, const RowInput& in, const Part& part, float (&sum)[kRows]) {
  const int whole = part.begin + (part.end - part.begin) / 8 * 8;
  for (int k = part.begin + part.lane * 8; k < whole; k += part.lanes * 8) {
    const uint4 eight = eight_weights(row + k, part.begin % 8 == 0);
    const unsigned pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= in.rows) break;
      const float* const x = in.x + int64_t(r) * in.x_stride + k;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sum[r] = fmaf(rounded_to_bf16(x[2 * i]), from_bf16(uint16_t(pairs[i] & 0xffffu)), sum[r]);
        sum[r] = fmaf(rounded_to_bf16(x[2 * i + 1]), from_bf16(uint16_t(pairs[i] >> 16)), sum[r]);
      }
    }
  }
  for (int k = whole + part.lane; k < part.end; k += part.lanes)
    for (int r = 0; r < kRows; ++r)
      if (r < in.rows) sum[r] = fmaf(rounded_to_bf16(in.x[int64_t(r) * in.x_stride + k]), from_bf16(row[k]), sum[r]);
}

template <int kRows>
__device__ void add_f32_dots(const float* row, const RowInput& in, const Part& part, float (&sum)[kRows]) {
  for (int k = part.begin + part.lane; k < part.end; k += part.lanes)
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (r < in.rows) sum[r] = fmaf(in.x[int64_t(r) * in.x_stride + k], row[k], sum[r]);
}

// sum[r] = the part's product of row `index` of w with row r of x.   in.rows <= kRows
template <int kRows>
__device__ void part_dots(const Rows& w, int index, const RowInput& in, const Part& part, float (&sum)[kRows]) {
  const unsigned char* const row = w.data + index * w.stride;
#pragma unroll
  for (int r = 0; r < kRows; ++r) sum[r] = 0;
  if (w.bits == 32) return add_f32_dots(reinterpret_cast<const float*>(row), in, part, sum);
  if (w.bits == 16) return add_bf16_dots(reinterpret_cast<const uint16_t*>(row), in, part, sum);
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
