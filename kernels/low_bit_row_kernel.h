#pragma once
// Products with low-bit rows: see low_bit_row.h for the storage and neuron_rows.h for the arithmetic.
#include "kernels/fix_up_kernel.h"
#include "kernels/vector_ops.h"

namespace pleat {

// Sums of scales by signs: byte c is sum_p A_p [bit p of c].
template <int planes>
struct PlaneSumTable {
  uint64_t bytes[2];

  [[gnu::always_inline]] explicit PlaneSumTable(const uint8_t* scales) {
    bytes[0] = scales[0] * 0x0100010001000100u + scales[1] * 0x0101000001010000u;  // no byte is above 127
    if constexpr (planes > 2) bytes[0] += scales[2] * 0x0101010100000000u;
    bytes[1] = bytes[0];
    if constexpr (planes > 3) bytes[1] += scales[3] * 0x0101010101010101u;
  }
};

// A format of rows.
template <int bits_, bool planes_>
struct RowForm {
  static constexpr int bits = bits_;
  static constexpr bool planes = planes_;
  static constexpr int64_t group_bytes = 8 * bits;  // of codes
};

// The bits of a group's codes, four a lane.
template <class Lanes, int bits>
[[gnu::always_inline]] inline typename Lanes::I code_bits(const uint8_t* codes) {
  constexpr int kWidest = bits & 8 ? 8 : bits & 4 ? 4 : 2;
  typename Lanes::I out = Lanes::template spread<kWidest>(codes);
  if constexpr ((bits & 2) != 0 && kWidest > 2)
    out = Lanes::add_shifted(out, Lanes::template spread<2>(codes + 8 * kWidest), kWidest);
  if constexpr ((bits & 1) != 0)
    out = Lanes::add_shifted(out, Lanes::template spread<1>(codes + 8 * (bits & 6)), bits & 6);
  return out;
}

// The codes of a group, four a lane.
template <class Lanes, class Form>
[[gnu::always_inline]] inline typename Lanes::I group_codes(const LowBitRow& row, int64_t group) {
  const typename Lanes::I codes = code_bits<Lanes, Form::bits>(row.codes + group * Form::group_bytes);
  if constexpr (!Form::planes) return codes;
  return Lanes::look_up(codes, PlaneSumTable<Form::bits>(row.planes + group * Form::bits).bytes);
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

// R dot products with the same row.   row: numbers of rows of x.
template <class Lanes, class Form, int R>
[[gnu::always_inline]] inline void dot_low_bit(const LowBitDots& task, const LowBitRow& weights, const LowBitRow& next,
                                               const int* row, float* out) {
  using F = typename Lanes::F;
  constexpr int bits = Form::bits;
  F code_sum[R], minimum_sum[R];
  for (int r = 0; r < R; ++r) code_sum[r] = minimum_sum[r] = Lanes::set1(0.0f);
  for_groups<Lanes, bits>(task.groups, next, [&](int64_t begin, int64_t n) {
    alignas(64) float factors[R][kGroupsAtOnce];
    const F scale = Lanes::load(weights.scales + begin);
    for (int r = 0; r < R; ++r)
      Lanes::store(factors[r], Lanes::mul(scale, Lanes::load(task.scales + row[r] * task.slots + begin)));
    if constexpr (bits != 8) {
      F minimum = Lanes::load(weights.minimums + begin);
      if (n < kGroupsAtOnce) minimum = Lanes::keep_first(minimum, n, 0.0f);
      for (int r = 0; r < R; ++r)
        minimum_sum[r] = Lanes::fma(minimum, Lanes::load(task.sums + row[r] * task.slots + begin), minimum_sum[r]);
    }
    for (int64_t group = 0; group < n; ++group) {
      const typename Lanes::I codes = group_codes<Lanes, Form>(weights, begin + group);
      for (int r = 0; r < R; ++r) {
        const int8_t* q = task.q + (row[r] * task.groups + begin + group) * 64;
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

template <class Lanes, class Form>
void dot_low_bit_rows(const LowBitDots& task) {
  for (int64_t i = 0; i < task.count; ++i) {
    const int64_t ahead = i + task.ahead < task.listed ? i + task.ahead : task.listed - 1;
    const LowBitRow weights = task.weights.down(task.row_bytes, task.neurons[i]);
    const LowBitRow next = task.weights.down(task.row_bytes, task.neurons[ahead]);
    float* const out = task.out + i * task.out_stride;
    for_set_bits(
        task.masks[i], [](int row) { return row; },
        [&](const int* row, int k) { dot_low_bit<Lanes, Form, 4>(task, weights, next, row, out + k); },
        [&](const int* row, int k) { dot_low_bit<Lanes, Form, 1>(task, weights, next, row, out + k); });
  }
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

// The weights of a group, given its codes: weights[i] are 16 i to 16 i + 15.
template <class Lanes>
[[gnu::always_inline]] inline void group_weights(typename Lanes::I codes, float scale, float minimum,
                                                 typename Lanes::F* weights) {
  const typename Lanes::F scales = Lanes::set1(scale), minimums = Lanes::set1(minimum);
  weights[0] = Lanes::fma(scales, Lanes::template byte<0>(codes), minimums);
  weights[1] = Lanes::fma(scales, Lanes::template byte<1>(codes), minimums);
  weights[2] = Lanes::fma(scales, Lanes::template byte<2>(codes), minimums);
  weights[3] = Lanes::fma(scales, Lanes::template byte<3>(codes), minimums);
}

template <class Lanes, class Form>
void unpack_low_bit(const UnpackLowBit& task) {
  constexpr int bits = Form::bits;
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
        group_weights<Lanes>(group_codes<Lanes, Form>(weights, first + group), scales.scale[group],
                             scales.minimum[group], values);
        for (int i = 0; i < 4; ++i) {
          const int64_t column = (first + group) * 64 + 16 * i - task.column;
          if (column >= 0 && column < task.columns) Lanes::store(task.out + row * task.stride + column, values[i]);
        }
      }
    }
  }
}

// Calls use.operator()<the RowForm>().
template <class Use>
[[gnu::always_inline]] inline void for_row_form(int bits, const LowBitRow& row, Use use) {
  switch (row.planes ? -bits : bits) {
    case -2:
      return use.template operator()<RowForm<2, true>>();
    case -3:
      return use.template operator()<RowForm<3, true>>();
    case -4:
      return use.template operator()<RowForm<4, true>>();
    case 2:
      return use.template operator()<RowForm<2, false>>();
    case 3:
      return use.template operator()<RowForm<3, false>>();
    case 4:
      return use.template operator()<RowForm<4, false>>();
    case 5:
      return use.template operator()<RowForm<5, false>>();
    case 6:
      return use.template operator()<RowForm<6, false>>();
    default:
      return use.template operator()<RowForm<8, false>>();
  }
}

template <class Lanes>
void low_bit_dots_kernel(const LowBitDots& task) {
  for_row_form(task.bits, task.weights, [&]<class Form>() { dot_low_bit_rows<Lanes, Form>(task); });
}

template <class Lanes>
void unpack_low_bit_kernel(const UnpackLowBit& task) {
  for_row_form(task.bits, task.weights, [&]<class Form>() { unpack_low_bit<Lanes, Form>(task); });
}

}  // namespace pleat
