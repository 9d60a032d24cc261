#pragma once
// One weight of any format. Included by .cu files only.
#include "kernels/cuda/low_bit_codes.h"
#include "kernels/cuda/plane_tile.h"

namespace pleat::cuda {

// Of a matrix in planes.
__device__ inline float plane_weight_at(const Rows& w, int row, int column) {
  const PlaneBlocks& all = w.blocks;
  for (int i = 0; i < w.protected_input_count; ++i)
    if (w.protected_inputs[i] == column)
      return from_bf16(all.protected_weights[int64_t(row) * w.protected_input_count + i]);
  int block = 0;  // the last one that begins at the row or before
  for (int end = all.count; end - block > 1;) {
    const int middle = (block + end) / 2;
    (all.blocks[middle].output <= row ? block : end) = middle;
  }
  const PlaneBlock& of = all.blocks[block];
  const int64_t at = int64_t(block) * ((w.width + 63) / 64) + column / 64;
  const PlaneRecord record(w.bits, all.records + at * kPlaneRecordBytes * w.bits);
  const int output = of.lane + row - of.output, input = column % 64;
  const PlaneTable table = record.table(plane_table_of(of.by_column, output, input));
  int weights[4];
  record.tile(output / 4, input % 16)
      .look_up(
          w.bits, [&](int) { return table; }, weights);
  return all.units[at] * float(int8_t(weights[output % 4] >> input / 16 * 8));
}

__device__ inline float weight_at(const Rows& w, int row, int column) {
  if (w.blocks.count > 0) return plane_weight_at(w, row, column);
  const unsigned char* const from = w.data + row * w.stride;
  if (w.bits == 32) return reinterpret_cast<const float*>(from)[column];
  if (w.bits == 16) return from_bf16(reinterpret_cast<const uint16_t*>(from)[column]);
  for (int i = 0; i < w.protected_row_count; ++i)
    if (w.protected_rows[i] == row) return from_bf16(w.protected_row_weights[int64_t(i) * w.width + column]);
  const LowBitScales scales(w, from, w.bits, (w.width + 63) / 64);
  for (int i = 0; i < w.protected_input_count; ++i)
    if (w.protected_inputs[i] == column) return from_bf16(scales.protected_weights[i]);
  const int group = column / 64;
  const unsigned* const words = reinterpret_cast<const unsigned*>(from + int64_t(group) * 8 * w.bits);
  int codes = code_word([&](int i) { return words[i]; }, w.bits, column % 16);
  if (w.planes) codes = scales.sums(group).look_up(codes);
  return fmaf(scales.scale(group), float(int8_t(codes >> column % 64 / 16 * 8)), scales.minimum(group));
}

}  // namespace pleat::cuda
