#pragma once
// The inner products of matmul.h: one table of kernels an instruction set. Each kernel multiplies a tile of rows with
// one leaf of one or two panels (32 outputs each); which kernel computes an output never changes its bits.
#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace pleat {

constexpr int kMaxTileRows = 12;
constexpr int kPanelOutputs = 32;
constexpr int kTileFloats = kMaxTileRows * kPanelOutputs;  // also 6 rows of two panels

struct TileJob {
  const void* x = nullptr;             // f32 [inputs][rows], or bf16 [inputs / 2][rows][2]
  const std::byte* weights = nullptr;  // f32 [inputs][32], bf16 [inputs / 2][32][2]
  int64_t next_weights = 0;            // bytes to the second panel
  int64_t inputs = 0;
  float* out = nullptr;  // [rows][32 * panels]: overwritten, or
  bool go_on = false;    // the sums to go on from
  int merges = 0;        // so many times the sums `level` floats lower are added and the result goes there
  int64_t level = 0;
  float* y = nullptr;  // if given, the result goes to rows of y, y_stride floats apart, plus bias if given
  int64_t y_stride = 0;
  const float* bias = nullptr;   // [32 * panels]
  const void* next_x = nullptr;  // of the tile that comes next, or x: fetched ahead
};

using TileKernel = void (*)(const TileJob&);

struct TileKernels {
  int max_rows;       // of a tile with one panel
  int max_pair_rows;  // of a tile with two panels: few rows need more accumulators in flight than one panel has
  bool bf16_pairs;    // bf16 products take x as bf16 pairs, otherwise as f32 holding rounded values
  TileKernel one[2][kMaxTileRows + 1];               // [f32, bf16][rows]
  TileKernel pair[2][kMaxTileRows + 1];              // the same with two panels
  void (*add)(const float* x, float* y, int64_t n);  // y += x; n is a multiple of 32
  // out [words][32] = transpose of [rows, words] 32-bit words, rows `stride` bytes apart; rows <= 32, the others are
  // zero.
  void (*transpose)(const std::byte* from, int64_t stride, int rows, int64_t words, uint32_t* out);
  // out [pairs][32][2] = bf16 rows [2 pairs][32], `stride` bytes apart, woven in pairs; out is 64-byte aligned. It goes
  // past the caches where that is faster: other threads see it once this one has ended its work with an atomic
  // read-modify-write, as members of a ThreadTeam do.
  void (*weave)(const std::byte* from, int64_t stride, int64_t pairs, uint32_t* out);
};

const TileKernels& tile_kernels_portable();
const TileKernels& tile_kernels_avx2();
const TileKernels& tile_kernels_avx512();
// bf16 by dot products of pairs (vdpbf16ps): twice the rate of fused multiply-adds on Zen 4, half of it on Intel's.
const TileKernels& tile_kernels_avx512_dot();

}  // namespace pleat
