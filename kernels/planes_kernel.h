#pragma once
#include "kernels/vector_ops.h"

namespace pleat {

// minus [64]: what is to be taken away from twice the dot products with decoded weights (planes_decode_portable.h), one
// row.
inline void plane_offsets(const uint8_t* totals, bool by_column, const int8_t* q, float* minus) {
  if (by_column) {
    int32_t sum = 0;
    for (int k = 0; k < 64; ++k) sum += int32_t(totals[k]) * q[k];
    for (int n = 0; n < 64; ++n) minus[n] = float(sum);
    return;
  }
  int32_t sums[8] = {};  // of the inputs that share scales
  for (int k = 0; k < 64; ++k) sums[k / 8] += q[k];
  for (int eight = 0; eight < 8; ++eight) {
    int32_t sum = 0;
    for (int j = 0; j < 8; ++j) sum += int32_t(totals[8 * eight + j]) * sums[j];
    for (int n = 0; n < 8; ++n) minus[8 * eight + n] = float(sum);
  }
}

// y += one group of inputs for R rows, whose decoded weights and totals are given.
template <class Lanes, int R>
[[gnu::always_inline]] inline void add_plane_group(const PlanesBlock& task, int64_t group, int first_row,
                                                   const uint8_t* weights, const uint8_t* totals) {
  using F = typename Lanes::F;
  alignas(64) float minus[R][64];
  const int8_t* q[R];
  float scale[R];
  for (int r = 0; r < R; ++r) {
    const int64_t at = (first_row + r) * task.stride + group;
    q[r] = task.q + at * 64;
    scale[r] = task.q_scales[at] * task.units[group];
    plane_offsets(totals, task.by_column, q[r], minus[r]);
  }
  for (int block = 0; block < 4; ++block) {
    typename Lanes::I sum[R];
    for (int r = 0; r < R; ++r) sum[r] = Lanes::zero_int();
    for (int line = 0; line < 16; ++line) {
      const typename Lanes::I operand = Lanes::load_int(weights + 1024 * block + 64 * line);
      for (int r = 0; r < R; ++r) sum[r] = Lanes::dot(sum[r], operand, q[r] + 4 * line);
    }
    for (int r = 0; r < R; ++r) {
      float* const y = task.y + (first_row + r) * 64 + 16 * block;
      // Integers below 2^24 all of them.
      const F term =
          Lanes::sub(Lanes::mul(Lanes::set1(2.0f), Lanes::to_float(sum[r])), Lanes::load(minus[r] + 16 * block));
      Lanes::store(y, Lanes::fma(Lanes::set1(scale[r]), term, Lanes::load(y)));
    }
  }
}

template <class Lanes, int planes>
void multiply_planes_block(const PlanesBlock& task) {
  constexpr int64_t kRecord = 576 * planes;
  alignas(64) uint8_t weights[4 * 16 * 64], totals[64];
  for (int i = 0; i < task.rows * 64; ++i) task.y[i] = 0;
  for (int64_t group = 0; group < task.groups; ++group) {
    const uint8_t* const record = task.records + group * kRecord;
    for (int line = 0; line < kRecord / 64; ++line) Lanes::prefetch(record + 4096 + 64 * line);
    Lanes::PlaneDecoder::template decode<planes>(record, task.by_column, weights, totals);
    int row = 0;
    for (; row + 4 <= task.rows; row += 4) add_plane_group<Lanes, 4>(task, group, row, weights, totals);
    for (; row < task.rows; ++row) add_plane_group<Lanes, 1>(task, group, row, weights, totals);
  }
}

template <class Lanes>
void planes_kernel(const PlanesBlock& task) {
  switch (task.planes) {
    case 2:
      return multiply_planes_block<Lanes, 2>(task);
    case 3:
      return multiply_planes_block<Lanes, 3>(task);
    default:
      return multiply_planes_block<Lanes, 4>(task);
  }
}

}  // namespace pleat
