#pragma once
#include <cstdint>

namespace pleat {

// A group's n <= 64 activations as int8 with the sum of them and their scale: see low_bit.h.
template <class Lanes>
void quantise_kernel(const float* x, int64_t n, int8_t* q, int32_t& sum, float& scale) {
  using F = typename Lanes::F;
  const F zero = Lanes::set1(0.0f);
  F values[4], highest = zero, odd = zero;
  for (int i = 0; i < 4; ++i) {
    values[i] = n >= 16 * i + 16 ? Lanes::load(x + 16 * i) : Lanes::load_part(x + 16 * i, n - 16 * i);
    highest = Lanes::max(Lanes::abs(values[i]), highest);  // which passes over NaN
    odd = Lanes::add(odd, Lanes::mul(values[i], zero));
  }
  scale = Lanes::max_lane(highest) / 127.0f + Lanes::sum(odd);
  const F step = Lanes::set1(scale), low = Lanes::set1(-127.0f), high = Lanes::set1(127.0f);
  const F shift = Lanes::set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
  F total = zero;
  for (int i = 0; i < 4; ++i) {
    // Where the step is subnormal or NaN the quotient may be anything; the comparisons bring it, NaN too, into range.
    F value = Lanes::max(Lanes::div(values[i], step), low);
    value = Lanes::select_less(value, high, value, high);
    value = Lanes::sub(Lanes::add(value, shift), shift);
    if (scale == 0) value = zero;
    Lanes::store(q + 16 * i, value);
    total = Lanes::add(total, value);
  }
  sum = int32_t(Lanes::sum(total));
}

}  // namespace pleat
