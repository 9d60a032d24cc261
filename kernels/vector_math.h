#pragma once
// Elementary functions over a Lanes type.
#include <cstdint>

namespace pleat {

// e^x within 2 units in the last place; 0 below -87.3, infinity above 88.3. exp(0) is exactly 1.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r is its Taylor series to r^7 (remainder below 6e-9).
template <class Lanes>
typename Lanes::F exp(typename Lanes::F x) {
  using F = typename Lanes::F;
  const F shift = Lanes::set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const F shifted = Lanes::fma(x, Lanes::set1(1.44269504088896341f), shift);
  const F n = Lanes::sub(shifted, shift);
  // ln 2 in two parts, the first short enough for n times it to be exact
  F r = Lanes::fma(n, Lanes::set1(-0.693359375f), x);
  r = Lanes::fma(n, Lanes::set1(2.12194440054690583e-4f), r);
  F sum = Lanes::set1(1.0f / 5040);
  sum = Lanes::fma(sum, r, Lanes::set1(1.0f / 720));
  sum = Lanes::fma(sum, r, Lanes::set1(1.0f / 120));
  sum = Lanes::fma(sum, r, Lanes::set1(1.0f / 24));
  sum = Lanes::fma(sum, r, Lanes::set1(1.0f / 6));
  sum = Lanes::fma(sum, r, Lanes::set1(0.5f));
  sum = Lanes::fma(sum, r, Lanes::set1(1.0f));
  sum = Lanes::fma(sum, r, Lanes::set1(1.0f));
  F result = Lanes::mul(sum, Lanes::power_of_two(shifted));
  result = Lanes::select_less(x, Lanes::set1(-87.3f), Lanes::set1(0.0f), result);
  return Lanes::select_less(Lanes::set1(88.3f), x, Lanes::set1(__builtin_inff()), result);
}

// cap tanh(x / cap) within 1e-7 cap: tanh(y) = sign(y) (1 - e) / (1 + e) with e = exp(-2 |y|).
template <class Lanes>
typename Lanes::F soft_cap(typename Lanes::F x, float cap) {
  using F = typename Lanes::F;
  const F one = Lanes::set1(1.0f), zero = Lanes::set1(0.0f);
  const F e = exp<Lanes>(Lanes::mul(Lanes::abs(x), Lanes::set1(-2.0f / cap)));
  const F capped = Lanes::mul(Lanes::div(Lanes::sub(one, e), Lanes::add(one, e)), Lanes::set1(cap));
  return Lanes::select_less(x, zero, Lanes::sub(zero, capped), capped);
}

// The normal distribution's P(X > y) for y >= 0, within 1e-7 relative (more where exp(-y^2 / 2) is tiny):
// exp(-y^2 / 2) times a polynomial in t = 1 / (1 + 0.3 y), the form of Abramowitz & Stegun 7.1.26, with coefficients
// fitted to double-precision values for the least relative error (5e-8).
template <class Lanes>
typename Lanes::F normal_tail(typename Lanes::F y) {
  using F = typename Lanes::F;
  const F one = Lanes::set1(1.0f);
  const F t = Lanes::div(one, Lanes::fma(y, Lanes::set1(0.3f), one));
  F g = Lanes::set1(0.03754807263612747f);
  g = Lanes::fma(g, t, Lanes::set1(-0.16507768630981445f));
  g = Lanes::fma(g, t, Lanes::set1(0.2200855165719986f));
  g = Lanes::fma(g, t, Lanes::set1(-0.06652475893497467f));
  g = Lanes::fma(g, t, Lanes::set1(0.13549663126468658f));
  g = Lanes::fma(g, t, Lanes::set1(0.09775599092245102f));
  g = Lanes::fma(g, t, Lanes::set1(0.12111122161149979f));
  g = Lanes::fma(g, t, Lanes::set1(0.11960504204034805f));
  g = Lanes::mul(g, t);
  const F half_square = Lanes::mul(Lanes::mul(y, y), Lanes::set1(-0.5f));
  return Lanes::mul(g, exp<Lanes>(half_square));
}

}  // namespace pleat
