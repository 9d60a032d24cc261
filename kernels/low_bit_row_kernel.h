#pragma once
// Products with low-bit rows: see low_bit_row.h for the storage and neuron_rows.h for the arithmetic.
#include "kernels/fix_up_kernel.h"
#include "kernels/vector_ops.h"

namespace pleat {

// The codes of a group, four a lane.
template <class Lanes, int bits>
[[gnu::always_inline]] inline typename Lanes::I group_codes(const uint8_t* codes) {
  constexpr int kWidest = bits & 8 ? 8 : bits & 4 ? 4 : 2;
  typename Lanes::I out = Lanes::template spread<kWidest>(codes);
  if constexpr ((bits & 2) != 0 && kWidest > 2)
    out = Lanes::add_shifted(out, Lanes::template spread<2>(codes + 8 * kWidest), kWidest);
  if constexpr ((bits & 1) != 0)
    out = Lanes::add_shifted(out, Lanes::template spread<1>(codes + 8 * (bits & 6)), bits & 6);
  return out;
}

constexpr int64_t kGroupsAtOnce = 16;  // whose scales fill the lanes

// Calls use(begin, n) for each n <= 16 groups from `begin` on, those of the next row being fetched ahead.
template <class Lanes, int bits, class Use>
[[gnu::always_inline]] inline void for_groups(int64_t groups, const LowBitRow& next, Use use) {
  for (int64_t begin = 0; begin < groups; begin += kGroupsAtOnce) {
    const int64_t left = groups - begin, n = left < kGroupsAtOnce ? left : kGroupsAtOnce;
    for (int64_t at = begin * 8 * bits; at < (begin + n) * 8 * bits; at += 64) Lanes::prefetch(next.codes + at);
    Lanes::prefetch(next.scales + begin);
    if constexpr (bits != 8) Lanes::prefetch(next.minimums + begin);
    use(begin, n);
  }
}

// R dot products with the same row; at[r]: row r's first group.
template <class Lanes, int bits, int R>
void dot_low_bit(const LowBitDots& task, const int64_t* at, float* out) {
  using F = typename Lanes::F;
  const LowBitRow weights = task.weights, next = task.next;
  F code_sum[R], minimum_sum[R];
  for (int r = 0; r < R; ++r) code_sum[r] = minimum_sum[r] = Lanes::set1(0.0f);
  for_groups<Lanes, bits>(task.groups, next, [&](int64_t begin, int64_t n) {
    alignas(64) float factors[R][kGroupsAtOnce];
    const F scale = Lanes::load(weights.scales + begin);
    for (int r = 0; r < R; ++r)
      Lanes::store(factors[r], Lanes::mul(scale, Lanes::load_part(task.scales + at[r] + begin, n)));
    if constexpr (bits != 8) {
      const F minimum = Lanes::keep_first(Lanes::load(weights.minimums + begin), n, 0.0f);
      for (int r = 0; r < R; ++r)
        minimum_sum[r] = Lanes::fma(minimum, Lanes::load_part(task.sums + at[r] + begin, n), minimum_sum[r]);
    }
    for (int64_t group = 0; group < n; ++group) {
      const typename Lanes::I codes = group_codes<Lanes, bits>(weights.codes + (begin + group) * 8 * bits);
      for (int r = 0; r < R; ++r) {
        const int8_t* q = task.q + (at[r] + begin + group) * 64;
        typename Lanes::I sum;
        if constexpr (bits == 8)
          sum = Lanes::dot_lanes_around_128(codes, q);
        else
          sum = Lanes::dot_lanes(codes, q);
        code_sum[r] = Lanes::fma(Lanes::set1(factors[r][group]), Lanes::to_float(sum), code_sum[r]);
      }
    }
  });
  for (int r = 0; r < R; ++r) out[r] = Lanes::sum(Lanes::add(code_sum[r], minimum_sum[r]));
}

// Scales and minimums of 16 groups as f32; 8 bits have the minimum -128 scale.
template <class Lanes, int bits>
struct GroupScales {
  alignas(64) float scale[kGroupsAtOnce], minimum[kGroupsAtOnce];

  [[gnu::always_inline]] GroupScales(const LowBitRow& row, int64_t begin) {
    const typename Lanes::F scales = Lanes::load(row.scales + begin);
    Lanes::store(scale, scales);
    if constexpr (bits == 8)
      Lanes::store(minimum, Lanes::mul(scales, Lanes::set1(-128.0f)));
    else
      Lanes::store(minimum, Lanes::load(row.minimums + begin));
  }
};

// The weights of a group: weights[i] are 16 i to 16 i + 15.
template <class Lanes, int bits>
[[gnu::always_inline]] inline void group_weights(const uint8_t* group, float scale, float minimum,
                                                 typename Lanes::F* weights) {
  const typename Lanes::I codes = group_codes<Lanes, bits>(group);
  const typename Lanes::F scales = Lanes::set1(scale), minimums = Lanes::set1(minimum);
  weights[0] = Lanes::fma(scales, Lanes::template byte<0>(codes), minimums);
  weights[1] = Lanes::fma(scales, Lanes::template byte<1>(codes), minimums);
  weights[2] = Lanes::fma(scales, Lanes::template byte<2>(codes), minimums);
  weights[3] = Lanes::fma(scales, Lanes::template byte<3>(codes), minimums);
}

template <class Lanes, int bits>
void unpack_low_bit(const UnpackLowBit& task) {
  constexpr int64_t kRowsAhead = 16;  // of which a strip is a few cache lines too far apart for the processor
  const int64_t begin = task.column / 64, end = (task.column + task.columns + 63) / 64;
  for (int64_t row = 0; row < task.rows; ++row) {
    const LowBitRow weights = task.weights.down(task.row_bytes, row);
    const LowBitRow ahead = weights.down(task.row_bytes, kRowsAhead).from(bits, begin);
    Lanes::prefetch(ahead.codes);
    Lanes::prefetch(ahead.scales);
    Lanes::prefetch(ahead.minimums);
    for (int64_t first = begin; first < end; first += kGroupsAtOnce) {
      const int64_t n = end - first < kGroupsAtOnce ? end - first : kGroupsAtOnce;
      const GroupScales<Lanes, bits> scales(weights, first);
      for (int64_t group = 0; group < n; ++group) {
        typename Lanes::F values[4];
        group_weights<Lanes, bits>(weights.codes + (first + group) * 8 * bits, scales.scale[group],
                                   scales.minimum[group], values);
        for (int i = 0; i < 4; ++i) {
          const int64_t column = (first + group) * 64 + 16 * i - task.column;
          if (column >= 0 && column < task.columns) Lanes::store(task.out + row * task.stride + column, values[i]);
        }
      }
    }
  }
}

// Calls use.operator()<bits>().
template <class Use>
[[gnu::always_inline]] inline void for_row_bits(int bits, Use use) {
  switch (bits) {
    case 2:
      return use.template operator()<2>();
    case 3:
      return use.template operator()<3>();
    case 4:
      return use.template operator()<4>();
    case 5:
      return use.template operator()<5>();
    case 6:
      return use.template operator()<6>();
    default:
      return use.template operator()<8>();
  }
}

template <class Lanes>
void low_bit_dots_kernel(const LowBitDots& task) {
  for_row_bits(task.bits, [&]<int bits>() {
    for_set_bits(
        task.rows, [&](int row) { return row * task.stride; },
        [&](const int64_t* at, int k) { dot_low_bit<Lanes, bits, 4>(task, at, task.out + k); },
        [&](const int64_t* at, int k) { dot_low_bit<Lanes, bits, 1>(task, at, task.out + k); });
  });
}

template <class Lanes>
void unpack_low_bit_kernel(const UnpackLowBit& task) {
  for_row_bits(task.bits, [&]<int bits>() { unpack_low_bit<Lanes, bits>(task); });
}

}  // namespace pleat
