#pragma once
#include <cstdint>

#include "kernels/dtype.h"

namespace pleat {

// function(i, count): 16 columns from i on, the last time fewer.
template <class Function>
void for_columns(int64_t n, Function function) {
  for (int64_t i = 0; i < n; i += 16) function(i, n - i < 16 ? n - i : 16);
}

// Sums run over 4 x 16 interleaved lanes, so that additions do not wait for each other.
template <class Lanes, class Term>
float sum_columns(int64_t n, Term term) {
  using F = typename Lanes::F;
  F sum[4] = {Lanes::set1(0), Lanes::set1(0), Lanes::set1(0), Lanes::set1(0)};
  int64_t i = 0;
  for (; i + 64 <= n; i += 64)
    for (int j = 0; j < 4; ++j) sum[j] = Lanes::add(sum[j], term(i + 16 * j, int64_t(16)));
  for (int j = 0; j < 4; ++j) {
    const int64_t left = n - (i + 16 * j);
    if (left > 0) sum[j] = Lanes::add(sum[j], term(i + 16 * j, left < 16 ? left : 16));
  }
  return Lanes::sum(Lanes::add(Lanes::add(sum[0], sum[1]), Lanes::add(sum[2], sum[3])));
}

template <class Lanes>
void layer_norm_kernel(const float* x, const float* weight, const float* bias, float eps, float* y, int64_t n) {
  using F = typename Lanes::F;
  const float total = sum_columns<Lanes>(n, [&](int64_t i, int64_t count) { return Lanes::load_part(x + i, count); });
  const F mean = Lanes::set1(total / float(n));
  const float squares = sum_columns<Lanes>(n, [&](int64_t i, int64_t count) {
    const F centred = Lanes::keep_first(Lanes::sub(Lanes::load_part(x + i, count), mean), count, 0.0f);
    return Lanes::mul(centred, centred);
  });
  const F scale = Lanes::div(Lanes::set1(1.0f), Lanes::sqrt(Lanes::set1(squares / float(n) + eps)));
  for_columns(n, [&](int64_t i, int64_t count) {
    const F normal = Lanes::mul(Lanes::sub(Lanes::load_part(x + i, count), mean), scale);
    const F shift = bias ? Lanes::load_part(bias + i, count) : Lanes::set1(0.0f);
    Lanes::store_part(y + i, Lanes::fma(normal, Lanes::load_part(weight + i, count), shift), count);
  });
}

template <class Lanes>
void rms_norm_kernel(const float* x, const float* weight, float eps, float* y, int64_t n) {
  using F = typename Lanes::F;
  const float squares = sum_columns<Lanes>(n, [&](int64_t i, int64_t count) {
    const F part = Lanes::load_part(x + i, count);
    return Lanes::mul(part, part);
  });
  const F scale = Lanes::div(Lanes::set1(1.0f), Lanes::sqrt(Lanes::set1(squares / float(n) + eps)));
  for_columns(n, [&](int64_t i, int64_t count) {
    const F normal = Lanes::mul(Lanes::load_part(x + i, count), scale);
    Lanes::store_part(y + i, Lanes::mul(normal, Lanes::load_part(weight + i, count)), count);
  });
}

template <class Lanes>
void add_kernel(const float* x, const float* bias, float* y, int64_t n) {
  for_columns(n, [&](int64_t i, int64_t count) {
    auto sum = Lanes::load_part(x + i, count);
    if (bias) sum = Lanes::add(sum, Lanes::load_part(bias + i, count));
    Lanes::store_part(y + i, Lanes::add(Lanes::load_part(y + i, count), sum), count);
  });
}

template <class Lanes>
void to_bf16_kernel(const float* x, bf16* y, int64_t n) {
  for_columns(n, [&](int64_t i, int64_t count) { Lanes::store_part(y + i, Lanes::load_part(x + i, count), count); });
}

template <class Lanes>
void round_to_bf16_kernel(const float* x, float* y, int64_t n) {
  for_columns(n, [&](int64_t i, int64_t count) {
    Lanes::store_part(y + i, Lanes::round_to_bf16(Lanes::load_part(x + i, count)), count);
  });
}

}  // namespace pleat
