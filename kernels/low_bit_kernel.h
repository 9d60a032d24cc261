#pragma once
#include "kernels/dtype.h"
#include "kernels/vector_ops.h"

namespace pleat {

// sum[r] += codes . q of 16 outputs for one plane (see LowBitAccess) of a group of 64 inputs and R rows, exact.
template <class Lanes, int width, int R>
[[gnu::always_inline]] inline void dot_plane(const uint8_t* codes, const int8_t* const* q, typename Lanes::I* sum) {
  using I = typename Lanes::I;
  constexpr int kParts = 8 / width, kLines = 2 * width;
  constexpr int kTogether = width == 4 ? 4 : kLines;  // lines whose sums fit Lanes::Dots
  for (int first = 0; first < kLines; first += kTogether) {
    typename Lanes::Dots dots[R];
    for (int r = 0; r < R; ++r) dots[r] = Lanes::no_dots();
    for (int line = first; line < first + kTogether; ++line) {
      const I packed = Lanes::load_int(codes + 64 * line);
      const auto add = [&]<int part>() {
        const I operand = Lanes::template unpack<width * part>(packed, uint8_t((1 << width) - 1));
        for (int r = 0; r < R; ++r) dots[r] = Lanes::add_dots(dots[r], operand, q[r] + 4 * (kParts * line + part));
      };
      add.template operator()<0>();
      add.template operator()<1>();
      if constexpr (kParts >= 4) {
        add.template operator()<2>();
        add.template operator()<3>();
      }
      if constexpr (kParts >= 8) {
        add.template operator()<4>();
        add.template operator()<5>();
        add.template operator()<6>();
        add.template operator()<7>();
      }
    }
    for (int r = 0; r < R; ++r) sum[r] = Lanes::add_dots(sum[r], dots[r]);
  }
}

// 8 bits: of codes - 128.   q_sum: the sums of q.
template <class Lanes, int bits, int R>
[[gnu::always_inline]] inline void dot_group(const uint8_t* codes, const int8_t* const* q, const int32_t* q_sum,
                                             typename Lanes::I* sum) {
  for (int r = 0; r < R; ++r) sum[r] = bits == 8 ? Lanes::start_of_bytes(q_sum[r]) : Lanes::zero_int();
  if constexpr (bits == 8) {
    for (int line = 0; line < 16; ++line) {
      const typename Lanes::I operand = Lanes::load_int(codes + 64 * line);
      for (int r = 0; r < R; ++r) sum[r] = Lanes::dot_bytes(sum[r], operand, q[r] + 4 * line);
    }
    return;
  }
  const auto add_plane = [&]<int width, int first>() {
    if constexpr ((bits & width) != 0) {
      if constexpr (first == 0) return dot_plane<Lanes, width, R>(codes, q, sum);
      typename Lanes::I high[R];
      for (int r = 0; r < R; ++r) high[r] = Lanes::zero_int();
      dot_plane<Lanes, width, R>(codes + 128 * first, q, high);
      for (int r = 0; r < R; ++r) sum[r] = Lanes::add_shifted(sum[r], high[r], first);
    }
  };
  add_plane.template operator()<4, 0>();
  add_plane.template operator()<2, (bits & 4)>();
  add_plane.template operator()<1, (bits & 6)>();
}

// y += groups [begin, end) for R rows.
template <class Lanes, int bits, int R>
void multiply_rows(const LowBitBlock& task, int first_row, int64_t begin, int64_t end) {
  using F = typename Lanes::F;
  constexpr int kScales = bits == 8 ? 16 : 32;
  const int8_t* q[R];
  F y[R];
  for (int r = 0; r < R; ++r) {
    q[r] = task.q + ((first_row + r) * task.stride + begin) * 64;
    y[r] = begin == 0 ? Lanes::set1(0.0f) : Lanes::load(task.y + (first_row + r) * 16);
  }
  for (int64_t group = begin; group < end; ++group) {
    const uint8_t* codes = task.codes + group * 128 * bits;
    typename Lanes::I sum[R];
    int32_t q_sum[R];
    for (int r = 0; r < R; ++r) q_sum[r] = task.q_sums[(first_row + r) * task.stride + group];
    for (int line = 0; line < 2 * bits; ++line) Lanes::prefetch(codes + 4096 + 64 * line);
    dot_group<Lanes, bits, R>(codes, q, q_sum, sum);
    const bf16* const scales = task.scales + group * kScales;
    const F scale = Lanes::load(scales);
    for (int r = 0; r < R; ++r) {
      const int64_t at = (first_row + r) * task.stride + group;
      F term;
      if constexpr (bits == 8)
        term = Lanes::mul(scale, Lanes::to_float(sum[r]));
      else
        term = Lanes::fma(scale, Lanes::to_float(sum[r]),
                          Lanes::mul(Lanes::load(scales + 16), Lanes::set1(float(q_sum[r]))));
      y[r] = Lanes::fma(Lanes::set1(task.q_scales[at]), term, y[r]);
      q[r] += 64;
    }
  }
  for (int r = 0; r < R; ++r) Lanes::store(task.y + (first_row + r) * 16, y[r]);
}

template <class Lanes, int bits>
void multiply_groups(const LowBitBlock& task, int64_t begin, int64_t end) {
  int row = 0;
  if constexpr (Lanes::kManyRegisters)
    for (; row + 8 <= task.rows; row += 8) multiply_rows<Lanes, bits, 8>(task, row, begin, end);
  for (; row + 4 <= task.rows; row += 4) multiply_rows<Lanes, bits, 4>(task, row, begin, end);
  for (; row < task.rows; ++row) multiply_rows<Lanes, bits, 1>(task, row, begin, end);
}

// Codes that stay in the first-level cache are multiplied with all rows before the next ones. The additions of a row
// are in the same order either way.
template <class Lanes, int bits>
void multiply_block(const LowBitBlock& task) {
  constexpr int64_t kCodeBytes = 16384, kGroups = kCodeBytes / (128 * bits);
  const int64_t step = task.rows > 8 ? kGroups : task.groups;
  int64_t begin = 0;
  for (; begin + step < task.groups; begin += step) multiply_groups<Lanes, bits>(task, begin, begin + step);
  multiply_groups<Lanes, bits>(task, begin, task.groups);
}

template <class Lanes>
void low_bit_kernel(const LowBitBlock& task) {
  switch (task.bits) {
    case 1:
      return multiply_block<Lanes, 1>(task);
    case 2:
      return multiply_block<Lanes, 2>(task);
    case 3:
      return multiply_block<Lanes, 3>(task);
    case 4:
      return multiply_block<Lanes, 4>(task);
    case 5:
      return multiply_block<Lanes, 5>(task);
    case 6:
      return multiply_block<Lanes, 6>(task);
    default:
      return multiply_block<Lanes, 8>(task);
  }
}

}  // namespace pleat
