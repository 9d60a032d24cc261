#pragma once
// Products of 16 rows of weights with up to 16 rows of x by a warp's tensor core. Included by .cu files only.
#include "kernels/cuda/low_bit_codes.h"
#include "kernels/cuda/row_input.h"
#include "kernels/cuda/row_part.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sums.h"
#include "tensor_core.h"

namespace pleat::cuda {

constexpr int kTileOutputs = 16;

// A lane's sums: element i of tile n is of weight row lane / 4 + i / 2 * 8 and of row 8 n + lane % 4 * 2 + i % 2 of x.
template <int kTiles>
using TileSums = float[kTiles][4];

// The weight rows lane / 4 and lane / 4 + 8. Where there are fewer, any: their sums are nobody's.
struct LaneRows {
  const unsigned char* row[2];
};

// Where a lane's sums are in [rows][outputs].
struct TilePlace {
  int output, row;
  __device__ TilePlace(int tile, int i)
      : output(int(threadIdx.x) % kWarp / 4 + i / 2 * 8), row(8 * tile + int(threadIdx.x) % 4 * 2 + i % 2) {}
};

// Eight neighbouring bf16 weights, two a word. 16-byte aligned.
__device__ inline uint4 whole_piece(const unsigned char* row, int k) {
  return *reinterpret_cast<const uint4*>(row + int64_t(k) * 2);
}
// The same at any place, as far as they stand before `end`; zeros from there on.
__device__ inline uint4 weight_piece(const unsigned char* row, int k, int end) {
  if (k >= end) return {};
  if (k % 8 == 0 && k + 8 <= end) return whole_piece(row, k);
  const uint16_t* const from = reinterpret_cast<const uint16_t*>(row) + k;
  const auto pair = [&](int i) {
    return (k + i < end ? unsigned(from[i]) : 0u) | (k + i + 1 < end ? unsigned(from[i + 1]) : 0u) << 16;
  };
  return {pair(0), pair(2), pair(4), pair(6)};
}

__device__ inline unsigned bf16_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const unsigned&>(pair);
}

// Eight neighbouring inputs, rounded to bf16. 16-byte aligned.
__device__ inline uint4 whole_inputs(const float* x) {
  const float4 a = reinterpret_cast<const float4*>(x)[0], b = reinterpret_cast<const float4*>(x)[1];
  return {bf16_pair(a.x, a.y), bf16_pair(a.z, a.w), bf16_pair(b.x, b.y), bf16_pair(b.z, b.w)};
}
// The same at any place, as far as they stand before `end`; zeros from there on.
__device__ inline uint4 input_piece(const float* x, int k, int end) {
  const auto pair = [&](int i) {
    return bf16_pair(k + i < end ? x[k + i] : 0.0f, k + i + 1 < end ? x[k + i + 1] : 0.0f);
  };
  return {pair(0), pair(2), pair(4), pair(6)};
}

// sums += of 32 inputs, of which this lane has eight: two products of 16 inputs by four lanes. Which of them are
// multiplied together does not matter.
__device__ inline void multiply_pieces(const uint4 (&w)[2], const uint4& in, float (&sums)[4]) {
  multiply_add(sums, {w[0].x, w[1].x, w[0].y, w[1].y}, {in.x, in.y});
  multiply_add(sums, {w[0].z, w[1].z, w[0].w, w[1].w}, {in.z, in.w});
}

// Rows of x as a lane multiplies them in bf16; where there are fewer, any.
template <int kTiles>
struct TileInput {
  const float* row[kTiles];
  bool aligned;

  __device__ explicit TileInput(const RowInput& x)
      : aligned(x.x_stride % 4 == 0 && reinterpret_cast<uintptr_t>(x.x) % 16 == 0) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
      row[n] = x.x + int64_t(min(8 * n + int(threadIdx.x) % kWarp / 4, x.rows - 1)) * x.x_stride;
  }
  // Whether `of` is a block, whole and aligned.
  __device__ bool is_block(const Part& of) const {
    return aligned && of.begin % 8 == 0 && of.step == 1 && of.end - of.begin == 64;
  }
};

// two[i] += of the whole, aligned block of 64 inputs at begin[i]; the weights of both are under way together.
template <int kTiles>
__device__ void add_two_blocks(const LaneRows& w, const TileInput<kTiles>& in, const int (&begin)[2],
                               TileSums<kTiles>& first, TileSums<kTiles>& second) {
  const auto place = [&](int block, int half) { return begin[block] + half * 32 + int(threadIdx.x) % 4 * 8; };
  uint4 weights[2][2][2];
#pragma unroll
  for (int block = 0; block < 2; ++block)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) weights[block][half][i] = whole_piece(w.row[i], place(block, half));
#pragma unroll
  for (int block = 0; block < 2; ++block)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
        multiply_pieces(weights[block][half], whole_inputs(in.row[n] + place(block, half)),
                        block == 0 ? first[n] : second[n]);
}

// sums += of the inputs of `of`, in bf16.
template <int kTiles>
__device__ void add_bf16_tile(const LaneRows& w, const TileInput<kTiles>& in, const Part& of, TileSums<kTiles>& sums) {
  const bool aligned = in.aligned && of.begin % 8 == 0;
  const int step = of.step * 64;
  int begin = of.begin + of.first * 64;
  for (; aligned && begin + step + 64 <= of.end; begin += 2 * step)
    add_two_blocks(w, in, {begin, begin + step}, sums, sums);
  for (; begin < of.end; begin += step) {
    const bool whole = aligned && begin + 64 <= of.end;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int k = begin + half * 32 + int(threadIdx.x) % 4 * 8;
      uint4 weights[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) weights[i] = whole ? whole_piece(w.row[i], k) : weight_piece(w.row[i], k, of.end);
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
        multiply_pieces(weights, whole ? whole_inputs(in.row[n] + k) : input_piece(in.row[n], k, of.end), sums[n]);
    }
  }
}

// Words 2 t, 2 t + 1, 2 t + 8 and 2 t + 9 of a group's codes (code_word()), of lane t of four.
__device__ inline void load_four_codes(const unsigned char* group, int bits, int t, int (&codes)[4]) {
  const uint2* const pairs = reinterpret_cast<const uint2*>(group);
  if (bits == 8) {
    const uint2 low = pairs[t], high = pairs[t + 4];
    codes[0] = int(low.x ^ 0x80808080u), codes[1] = int(low.y ^ 0x80808080u);
    codes[2] = int(high.x ^ 0x80808080u), codes[3] = int(high.y ^ 0x80808080u);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) codes[i] = 0;
  const auto add = [&](uint2 pair, int shift, unsigned mask, int to) {
    codes[0] |= int((pair.x >> shift & mask) << to), codes[1] |= int((pair.y >> shift & mask) << to);
    codes[2] |= int((pair.x >> (shift + 4) & mask) << to), codes[3] |= int((pair.y >> (shift + 4) & mask) << to);
  };
  if (bits & 4) add(pairs[t], 0, 0x0f0f0f0fu, 0);
  if (bits & 2) add(pairs[(bits & 4) + t % 2], t / 2 * 2, 0x03030303u, bits & 4);
  if (bits & 1) add(pairs[bits & 6], t, 0x01010101u, bits & 6);
}

// sums += of the inputs of `of`, in low bits; `of.begin` begins a group. Then every `step`-th protected input of them.
template <int kTiles>
__device__ void add_low_bit_tile(const Rows& w, const LaneRows& rows, const RowInput& x, const Part& of,
                                 TileSums<kTiles>& sums) {
  const int t = int(threadIdx.x) % 4;
  const LowBitScales scales[2] = {{w, rows.row[0], w.bits, x.groups()}, {w, rows.row[1], w.bits, x.groups()}};
#pragma unroll 2
  for (int group = (of.begin + 63) / 64 + of.first; group * 64 < of.end; group += of.step) {
    int codes[2][4];
    float scale[2], minimum[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_four_codes(rows.row[i] + int64_t(group) * 8 * w.bits, w.bits, t, codes[i]);
      if (w.planes)
        for (int& word : codes[i]) word = scales[i].sums(group).look_up(word);
      scale[i] = scales[i].scale(group);
      minimum[i] = scales[i].minimum(group);
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int row = min(8 * n + int(threadIdx.x) % kWarp / 4, x.rows - 1);
      const uint4 in = reinterpret_cast<const uint4*>(x.words(row, group))[t];
      int dots[4] = {};
      multiply_add(dots, {unsigned(codes[0][0]), unsigned(codes[1][0]), unsigned(codes[0][1]), unsigned(codes[1][1])},
                   {in.x, in.y});
      multiply_add(dots, {unsigned(codes[0][2]), unsigned(codes[1][2]), unsigned(codes[0][3]), unsigned(codes[1][3])},
                   {in.z, in.w});
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const TilePlace place(n, i);
        if (place.row >= x.rows) continue;
        const int at = place.row * x.group_stride + group;
        const float product = fmaf(scale[i / 2], float(dots[i]), minimum[i / 2] * float(x.sums[at]));
        sums[n][i] = fmaf(x.scales[at], product, sums[n][i]);
      }
    }
  }
  for (int p = of.first; p < w.protected_input_count; p += of.step) {
    const int input = w.protected_inputs[p];
    if (input < of.begin || input >= of.end) continue;
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const TilePlace place(n, i);
        if (place.row >= x.rows) continue;
        sums[n][i] = fmaf(x.x[int64_t(place.row) * x.x_stride + input], from_bf16(scales[i / 2].protected_weights[p]),
                          sums[n][i]);
      }
  }
}

// A warp's sums to value [rows][kTileOutputs].
template <int kTiles>
__device__ void keep_tile(const TileSums<kTiles>& sums, int rows, float* value) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const TilePlace place(n, i);
      if (place.row < rows) value[place.row * kTileOutputs + place.output] = sums[n][i];
    }
}

}  // namespace pleat::cuda
