#pragma once
// Four outputs by four inputs of a matrix in planes (plane_records.h), looked up. Included by .cu files only.
#include "device_language.h"
#include "kernels/cuda/plane_records.h"

namespace pleat::cuda {

// The sums +-A_p of a set of scales, which two look-ups by two signs each add up, byte by byte: 128 + the sum for 3 and
// 4 planes, for 2 planes `low` alone the sum. No byte of an addition passes 255, the A_p being at most 127 together.
struct PlaneTable {
  unsigned low, high;
};

__device__ inline PlaneTable plane_table(int planes, unsigned a, unsigned b, unsigned c, unsigned d) {
  const unsigned low = 2 * (a * 0x01000100u + b * 0x01010000u), middle = (128 - a - b - c - d) * 0x01010101u;
  if (planes == 2) return {(low + middle) ^ 0x80808080u, 0};
  return {low, 2 * (c * 0x01000100u + d * 0x01010000u) + middle};
}

// Which table of a record an output's input has.
__device__ inline int plane_table_of(bool by_column, int output, int input) {
  return by_column ? input : output / 8 * 8 + input / 8;
}

// Bytes side by side to bytes one below the other.
__device__ inline void transpose_bytes(const unsigned (&in)[4], int (&out)[4]) {
  const unsigned a = __byte_perm(in[0], in[1], 0x5140), b = __byte_perm(in[0], in[1], 0x7362),
                 c = __byte_perm(in[2], in[3], 0x5140), d = __byte_perm(in[2], in[3], 0x7362);
  out[0] = int(__byte_perm(a, c, 0x5410));
  out[1] = int(__byte_perm(a, c, 0x7632));
  out[2] = int(__byte_perm(b, d, 0x5410));
  out[3] = int(__byte_perm(b, d, 0x7632));
}

struct PlaneTile {
  unsigned low, high;  // signs of planes 0 and 1, of 2 and 3

  // weights[o] = output o's sums +-A_p of the inputs 16 i + l, byte i.   table(i): of input i
  template <class Table>
  __device__ void look_up(int planes, Table table, int (&weights)[4]) const {
    unsigned of_inputs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const PlaneTable sums = table(i);
      const int shift = 16 * (i / 2) + 2 * (i % 2);
      unsigned found = __byte_perm(sums.low, 0, low >> shift & 0x3333u);
      if (planes > 2) found = (found + __byte_perm(sums.high, 0, high >> shift & 0x3333u)) ^ 0x80808080u;
      of_inputs[i] = found;
    }
    transpose_bytes(of_inputs, weights);
  }
};

// A record's parts.
struct PlaneRecord {
  int planes;
  const unsigned char* scales;  // [planes][64]
  __device__ PlaneRecord(int planes_, const unsigned char* record) : planes(planes_), scales(record) {}

  __device__ PlaneTable table(int index) const {
    const auto scale = [&](int plane) { return plane < planes ? unsigned(scales[64 * plane + index]) : 0u; };
    return plane_table(planes, scale(0), scale(1), scale(2), scale(3));
  }
  // Tile l's signs are those of tiles 4 line to 4 line + 3.
  struct Line {
    uint4 low, high;
    __device__ PlaneTile tile(int i) const {
      const unsigned lows[4] = {low.x, low.y, low.z, low.w}, highs[4] = {high.x, high.y, high.z, high.w};
      return {lows[i], highs[i]};
    }
  };
  __device__ Line line(int quad, int index) const {
    const unsigned char *const low = scales + 64 * planes, *const high = low + 1024;
    Line out{reinterpret_cast<const uint4*>(low)[16 * index + quad], {}};
    if (planes == 4) out.high = reinterpret_cast<const uint4*>(high)[16 * index + quad];
    if (planes != 3) return out;
    const uint2 pairs = reinterpret_cast<const uint2*>(high)[16 * index + quad];
    constexpr unsigned kEven = 0x55555555u;
    out.high = {pairs.x & kEven, pairs.x >> 1 & kEven, pairs.y & kEven, pairs.y >> 1 & kEven};
    return out;
  }
  __device__ PlaneTile tile(int quad, int l) const { return line(quad, l / 4).tile(l % 4); }
};

}  // namespace pleat::cuda
