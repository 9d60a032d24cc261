#include "kernels/cuda/widened_planes.h"

#include "kernels/cuda/low_bit_codes.h"
#include "kernels/cuda/plane_tile.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256;

__device__ inline uint16_t bf16_bits_of(float power) { return uint16_t(__float_as_uint(power) >> 16); }

// The words of a row's group.
__device__ inline unsigned* words_of(unsigned char* to, const Rows& wide, int row, int group) {
  return reinterpret_cast<unsigned*>(to + row * wide.stride) + group * 16;
}
// What stands behind a row's codes.
__device__ inline uint16_t* numbers_of(unsigned char* to, const Rows& wide, int row) {
  return reinterpret_cast<uint16_t*>(to + row * wide.stride + int64_t((wide.width + 63) / 64) * 64);
}

// Of a matrix: a block a record, a thread a tile. Its weights are 2^e times their codes.
__global__ void __launch_bounds__(kThreads) widen_blocks_kernel(Rows w, Rows wide, unsigned char* to) {
  __shared__ SharedArray<PlaneTable, 64> tables;
  const int thread = int(threadIdx.x), group = int(blockIdx.y), groups = int(gridDim.y);
  const PlaneBlock block = w.blocks.blocks[blockIdx.x];
  const int64_t at = int64_t(blockIdx.x) * groups + group;
  const PlaneRecord record(w.bits, w.blocks.records + at * kPlaneRecordBytes * w.bits);
  if (thread < 64) tables[thread] = record.table(thread);
  __syncthreads();
  const int quad = thread / 16, l = thread % 16;
  int weights[4];
  record.tile(quad, l).look_up(
      w.bits, [&](int i) { return tables[plane_table_of(block.by_column, 4 * quad, 16 * i + l)]; }, weights);
  for (int o = 0; o < 4; ++o) {
    const int held = 4 * quad + o - block.lane;
    if (held < 0 || held >= block.count) continue;
    const int row = block.output + held;
    words_of(to, wide, row, group)[l] = unsigned(weights[o]) ^ 0x80808080u;
    uint16_t* const numbers = numbers_of(to, wide, row);
    if (l == 0) numbers[group] = bf16_bits_of(w.blocks.units[at]);
    if (group > 0) continue;
    for (int i = l; i < w.protected_input_count; i += 16)
      numbers[groups + i] = w.blocks.protected_weights[int64_t(row) * w.protected_input_count + i];
  }
}

// Of rows: a thread a group. Scales and minimums stay.
__global__ void __launch_bounds__(kThreads) widen_rows_kernel(Rows w, Rows wide, unsigned char* to) {
  const int group = int(blockIdx.y) * kThreads + int(threadIdx.x), groups = (w.width + 63) / 64, row = int(blockIdx.x);
  if (group >= groups) return;
  const unsigned char* const from = w.data + row * w.stride;
  const LowBitScales scales(w, from, w.bits, groups);
  int codes[16];
  load_codes(from + int64_t(group) * 8 * w.bits, w.bits, codes);
  look_up(scales.sums(group), codes);
  for (int l = 0; l < 16; ++l) words_of(to, wide, row, group)[l] = unsigned(codes[l]) ^ 0x80808080u;
  uint16_t* const numbers = numbers_of(to, wide, row);
  numbers[group] = scales.scales[group];
  numbers[groups + group] = scales.minimums[group];
  if (group > 0) return;
  for (int i = 0; i < w.protected_input_count; ++i) numbers[2 * groups + i] = scales.protected_weights[i];
}

Rows widened(const Rows& w) {
  Rows out = w;
  const int64_t groups = (w.width + 63) / 64;
  out.planes = false;
  out.blocks = {};
  out.bits = 8;
  out.stride = (groups * (64 + (w.has_minimums ? 4 : 2)) + 2 * int64_t(w.protected_input_count) + 63) / 64 * 64;
  return out;
}

}  // namespace

int64_t WidenedPlanes::bytes_of(const Rows& w) { return w.planes ? w.rows * widened(w).stride : 0; }

Rows WidenedPlanes::widen(cudaStream_t stream, const Rows& w) const {
  Rows out = widened(w);
  out.data = data_.data();
  PLEAT_ASSERT(size_t(bytes_of(w)) <= data_.size(), bytes_of(w), " bytes in room for ", data_.size());
  const unsigned groups = unsigned((w.width + 63) / 64);
  if (w.blocks.count > 0)
    launch(widen_blocks_kernel, {dim3(unsigned(w.blocks.count), groups), kThreads, 0, stream}, w, out, data_.data());
  else if (w.rows > 0)
    launch(widen_rows_kernel, {dim3(unsigned(w.rows), (groups + kThreads - 1) / kThreads), kThreads, 0, stream}, w, out,
           data_.data());
  return out;
}

}  // namespace pleat::cuda
