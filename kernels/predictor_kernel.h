#pragma once
#include "kernels/dtype.h"
#include "kernels/vector_ops.h"

namespace pleat {

// codes . q of 16 neurons for one group of 64 inputs and R rows, exact. See LowBitAccess for the layout.
template <class Lanes, int bits, int R>
[[gnu::always_inline]] inline void dot_group(const uint8_t* codes, const int8_t* const* q, typename Lanes::I* sum) {
  using I = typename Lanes::I;
  for (int r = 0; r < R; ++r) sum[r] = Lanes::zero_int();
  if constexpr (bits >= 2) {
    for (int i = 0; i < 4; ++i) {
      const I packed = Lanes::load_int(codes + 64 * i);
      const auto add = [&]<int part>() {
        const I operand = Lanes::template unpack<2 * part>(packed, 3);
        for (int r = 0; r < R; ++r) sum[r] = Lanes::dot(sum[r], operand, q[r] + 16 * i + 4 * part);
      };
      add.template operator()<0>();
      add.template operator()<1>();
      add.template operator()<2>();
      add.template operator()<3>();
    }
    codes += 256;
  }
  if constexpr (bits != 2) {
    I high[R];
    for (int r = 0; r < R; ++r) high[r] = Lanes::zero_int();
    for (int i = 0; i < 2; ++i) {
      const I packed = Lanes::load_int(codes + 64 * i);
      const auto add = [&]<int part>() {
        const I operand = Lanes::template unpack<part>(packed, 1);
        for (int r = 0; r < R; ++r) high[r] = Lanes::dot(high[r], operand, q[r] + 32 * i + 4 * part);
      };
      add.template operator()<0>();
      add.template operator()<1>();
      add.template operator()<2>();
      add.template operator()<3>();
      add.template operator()<4>();
      add.template operator()<5>();
      add.template operator()<6>();
      add.template operator()<7>();
    }
    for (int r = 0; r < R; ++r) sum[r] = Lanes::add_shifted(sum[r], high[r], bits - 1);
  }
}

template <class Lanes, int bits, int R>
void predict_rows(const PredictBlock& task, int first_row) {
  using F = typename Lanes::F;
  const int64_t padded = task.groups * 64;
  const int8_t* q[R];
  F z[R];
  for (int r = 0; r < R; ++r) {
    q[r] = task.q + (first_row + r) * padded;
    z[r] = Lanes::set1(0.0f);
  }
  for (int64_t group = 0; group < task.groups; ++group) {
    const uint8_t* codes = task.codes + group * 128 * bits;
    typename Lanes::I sum[R];
    for (int line = 0; line < 2 * bits; ++line) Lanes::prefetch(codes + 4096 + 64 * line);
    dot_group<Lanes, bits, R>(codes, q, sum);
    const F scale = Lanes::load(task.scales + group * 32), minimum = Lanes::load(task.scales + group * 32 + 16);
    for (int r = 0; r < R; ++r) {
      const int64_t row = first_row + r;
      const F offset = Lanes::mul(minimum, Lanes::set1(float(task.q_sums[row * task.groups + group])));
      const F term = Lanes::fma(scale, Lanes::to_float(sum[r]), offset);
      z[r] = Lanes::fma(Lanes::set1(task.q_scales[row]), term, z[r]);
      q[r] += 64;
    }
  }
  for (int r = 0; r < R; ++r) Lanes::store(task.z + (first_row + r) * 16, z[r]);
}

template <class Lanes, int bits>
void predict_block(const PredictBlock& task) {
  int row = 0;
  for (; row + 4 <= task.rows; row += 4) predict_rows<Lanes, bits, 4>(task, row);
  for (; row < task.rows; ++row) predict_rows<Lanes, bits, 1>(task, row);
}

template <class Lanes>
void predict_kernel(const PredictBlock& task) {
  if (task.bits == 1) return predict_block<Lanes, 1>(task);
  if (task.bits == 2) return predict_block<Lanes, 2>(task);
  predict_block<Lanes, 3>(task);
}

}  // namespace pleat
