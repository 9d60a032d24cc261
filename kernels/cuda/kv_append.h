#pragma once
// What happens to a step's queries, keys and values before attention, in one launch: rotary embedding and the cache.

#include "kernels/cuda/device.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"
#include "kernels/tensor.h"

namespace pleat::cuda {

// kernels/rotary.h's Rotary with its frequencies on the device.
struct DeviceRotary {
  const float* frequency = nullptr;  // [dims / 2] radians a position
  int dims = 0;                      // of a head's values, the first ones; 0: nothing is rotated
  float magnitude = 1;               // of the rotated values
  bool interleaved = false;          // pairs (2i, 2i + 1) instead of (i, i + dims / 2)
};

// Rotates q in place; stores k, rotated, and v at the rows' positions in the cache.
//   q      [rows, q_heads * head_size] f32
//   k, v   [rows, kv_heads * head_size] f32; k stays as it is
//   cache  as in kernels/kv_cache.h, at multiples of 16 bytes, keys whole (kept_channels is 0)
// All are on the device; no kernel writes the rows' positions and page tables. No two rows have the same page and
// position.
void append_kv(StreamHandle stream, const DeviceRotary& rotary, MatrixView<float> q, MatrixView<const float> k,
               MatrixView<const float> v, const PagedRows& rows, const KvCache& cache);

}  // namespace pleat::cuda
