#pragma once
#include "kernels/vector_ops.h"

namespace pleat {

// y [64] += scale * (2 * the dot products of a group - minus), integers below 2^24 all of them, 16 outputs from 16
// block on.
template <class Lanes>
[[gnu::always_inline]] inline void add_plane_sums(typename Lanes::I sum, const float* minus, int block, float scale,
                                                  float* y) {
  using F = typename Lanes::F;
  const F term = Lanes::sub(Lanes::mul(Lanes::set1(2.0f), Lanes::to_float(sum)),
                            Lanes::set_halves(minus[2 * block], minus[2 * block + 1]));
  Lanes::store(y + 16 * block, Lanes::fma(Lanes::set1(scale), term, Lanes::load(y + 16 * block)));
}

// y += one group of inputs for R rows, whose decoded weights and totals are given.
template <class Lanes, int R>
[[gnu::always_inline]] inline void add_plane_group(const PlanesBlock& task, int64_t group, int first_row,
                                                   const uint8_t* weights, const uint8_t* totals) {
  alignas(32) float minus[R][8];
  const int8_t* q[R];
  float scale[R];
  for (int r = 0; r < R; ++r) {
    const int64_t at = (first_row + r) * task.stride + group;
    q[r] = task.q + at * 64;
    scale[r] = task.q_scales[at] * task.units[group];
    task.by_column ? Lanes::PlaneDecoder::column_offsets(totals, q[r], minus[r])
                   : Lanes::PlaneDecoder::block_offsets(totals, q[r], minus[r]);
  }
  for (int block = 0; block < 4; ++block) {
    typename Lanes::I sum[R];
    for (int r = 0; r < R; ++r) sum[r] = Lanes::zero_int();
    for (int line = 0; line < 16; ++line) {
      const typename Lanes::I operand = Lanes::load_int(weights + 1024 * block + 64 * line);
      for (int r = 0; r < R; ++r) sum[r] = Lanes::dot(sum[r], operand, q[r] + 4 * line);
    }
    for (int r = 0; r < R; ++r) add_plane_sums<Lanes>(sum[r], minus[r], block, scale[r], task.y + (first_row + r) * 64);
  }
}

// A row alone, by block: look-ups go straight into the dot products (by column that is no faster: registers run out).
template <class Lanes, int planes>
void add_blocks_alone(const PlanesBlock& task, int64_t group, const uint8_t* record) {
  alignas(64) int32_t sums[64];
  alignas(64) uint8_t totals[64];
  alignas(32) float minus[8];
  const int8_t* const q = task.q + group * 64;
  Lanes::PlaneDecoder::template dot_blocks<planes>(record, q, sums, totals);
  Lanes::PlaneDecoder::block_offsets(totals, q, minus);
  for (int block = 0; block < 4; ++block)
    add_plane_sums<Lanes>(Lanes::load_int(sums + 16 * block), minus, block, task.q_scales[group] * task.units[group],
                          task.y);
}

template <class Lanes, int planes>
void multiply_planes_block(const PlanesBlock& task) {
  constexpr int64_t kRecord = 576 * planes;
  alignas(64) uint8_t weights[4 * 16 * 64], totals[64];
  for (int i = 0; i < task.rows * 64; ++i) task.y[i] = 0;
  for (int64_t group = 0; group < task.groups; ++group) {
    const uint8_t* const record = task.records + group * kRecord;
    for (int line = 0; line < kRecord / 64; ++line) Lanes::prefetch(record + 4096 + 64 * line);
    if (task.rows == 1 && !task.by_column) {
      add_blocks_alone<Lanes, planes>(task, group, record);
      continue;
    }
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
