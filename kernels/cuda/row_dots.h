#pragma once
// Products of one row of weights with a few rows of x, by the lanes of a warp. Included by .cu files only.
#include "device_language.h"
#include "kernels/cuda/row_input.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {

__device__ inline float from_bf16(uint16_t bits) { return __uint_as_float(unsigned(bits) << 16); }

// Word l of a group's codes in `kBits` bits: byte i is the code of weight 16 i + l (kernels/low_bit_row.h), at 8 bits
// less 128. `words`: the group's 2 kBits words.
template <int kBits, class Words>
__device__ int code_word(Words words, int l) {
  if constexpr (kBits == 8) {
    return int(words(l) ^ 0x80808080u);
  } else {
    unsigned out = 0;
    int first = 0, offset = 0;
    for (int plane = 4; plane > 0; plane /= 2) {
      if ((kBits & plane) == 0) continue;
      const unsigned mask = ((1u << plane) - 1) * 0x01010101u;
      out |= (words(offset + l % (2 * plane)) >> plane * (l / (2 * plane)) & mask) << first;
      offset += 2 * plane;
      first += plane;
    }
    return int(out);
  }
}

// What stands behind a row's codes.
template <int kBits>
struct LowBitScales {
  const uint16_t *scales, *minimums, *protected_weights;
  __device__ LowBitScales(const unsigned char* row, int groups)
      : scales(reinterpret_cast<const uint16_t*>(row + int64_t(groups) * 8 * kBits)),
        minimums(scales + groups),
        protected_weights(kBits == 8 ? minimums : minimums + groups) {}
  __device__ float scale(int group) const { return from_bf16(scales[group]); }
  __device__ float minimum(int group) const { return kBits == 8 ? 0.0f : from_bf16(minimums[group]); }
};

// Who adds up which inputs: lane `lane` of `lanes` takes its part of the inputs [begin, end).
struct Part {
  int begin, end;
  int lane, lanes;
};

// sum[r] += the part's product with row r of x: every `lanes`th group, then every `lanes`th protected input. A part
// begins with a group, or is empty.
template <int kBits, int kRows>
__device__ void add_low_bit_dots(const Rows& w, const unsigned char* row, const RowInput& in, const Part& part,
                                 float (&sum)[kRows]) {
  const LowBitScales<kBits> scales(row, in.groups());
  for (int group = (part.begin + 63) / 64 + part.lane; group * 64 < part.end; group += part.lanes) {
    unsigned words[2 * kBits];
    const uint2* const from = reinterpret_cast<const uint2*>(row + int64_t(group) * 8 * kBits);
#pragma unroll
    for (int i = 0; i < kBits; ++i) {
      const uint2 pair = from[i];
      words[2 * i] = pair.x;
      words[2 * i + 1] = pair.y;
    }
    int codes[16];
#pragma unroll
    for (int l = 0; l < 16; ++l) codes[l] = code_word<kBits>([&](int i) { return words[i]; }, l);
    const float scale = scales.scale(group), minimum = scales.minimum(group);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= in.rows) break;
      const int* const q = in.q + int64_t(r) * 16 * in.group_stride + group;
      int dot = 0;
#pragma unroll
      for (int l = 0; l < 16; ++l) dot = __dp4a(codes[l], q[l * in.group_stride], dot);
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
  switch (w.bits) {
    case 32:
      return add_f32_dots(reinterpret_cast<const float*>(row), in, part, sum);
    case 16:
      return add_bf16_dots(reinterpret_cast<const uint16_t*>(row), in, part, sum);
    case 8:
      return add_low_bit_dots<8>(w, row, in, part, sum);
    case 6:
      return add_low_bit_dots<6>(w, row, in, part, sum);
    case 5:
      return add_low_bit_dots<5>(w, row, in, part, sum);
    case 4:
      return add_low_bit_dots<4>(w, row, in, part, sum);
    case 3:
      return add_low_bit_dots<3>(w, row, in, part, sum);
    case 2:
      return add_low_bit_dots<2>(w, row, in, part, sum);
    default:
      return add_low_bit_dots<1>(w, row, in, part, sum);
  }
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
