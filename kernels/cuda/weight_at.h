#pragma once
// One weight of any format. Included by .cu files only.
#include "kernels/cuda/low_bit_codes.h"
#include "kernels/cuda/rows.h"

namespace pleat::cuda {

__device__ inline float weight_at(const Rows& w, int row, int column) {
  const unsigned char* const from = w.data + row * w.stride;
  if (w.bits == 32) return reinterpret_cast<const float*>(from)[column];
  if (w.bits == 16) return from_bf16(reinterpret_cast<const uint16_t*>(from)[column]);
  for (int i = 0; i < w.protected_row_count; ++i)
    if (w.protected_rows[i] == row) return from_bf16(w.protected_row_weights[int64_t(i) * w.width + column]);
  const LowBitScales scales(from, w.bits, (w.width + 63) / 64);
  for (int i = 0; i < w.protected_input_count; ++i)
    if (w.protected_inputs[i] == column) return from_bf16(scales.protected_weights[i]);
  const int group = column / 64;
  const unsigned* const words = reinterpret_cast<const unsigned*>(from + int64_t(group) * 8 * w.bits);
  const int codes = code_word([&](int i) { return words[i]; }, w.bits, column % 16);
  return fmaf(scales.scale(group), float(int8_t(codes >> column % 64 / 16 * 8)), scales.minimum(group));
}

}  // namespace pleat::cuda
