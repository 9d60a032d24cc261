#pragma once
#include "kernels/activation.h"
#include "kernels/vector_math.h"

namespace pleat {

// gelu(x) = x P(X < x) = max(x, 0) - |x| P(X > |x|): nothing cancels.
template <class Lanes>
typename Lanes::F gelu(typename Lanes::F x) {
  const auto y = Lanes::abs(x);
  return Lanes::sub(Lanes::max(Lanes::set1(0.0f), x), Lanes::mul(y, normal_tail<Lanes>(y)));
}

// x / 2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
template <class Lanes>
typename Lanes::F gelu_new(typename Lanes::F x) {
  const auto one = Lanes::set1(1.0f);
  const auto cubic = Lanes::fma(Lanes::mul(x, x), Lanes::set1(0.044715f), one);
  const auto exponent = Lanes::mul(Lanes::mul(cubic, x), Lanes::set1(-1.5957691216057308f));
  return Lanes::div(x, Lanes::add(one, exp<Lanes>(exponent)));
}

// NaN stays NaN: max gives its second operand then.
template <class Lanes>
typename Lanes::F relu(typename Lanes::F x) {
  return Lanes::max(Lanes::set1(0.0f), x);
}

// x / (1 + exp(-x))
template <class Lanes>
typename Lanes::F silu(typename Lanes::F x) {
  const auto negative = Lanes::sub(Lanes::set1(0.0f), x);
  return Lanes::div(x, Lanes::add(Lanes::set1(1.0f), exp<Lanes>(negative)));
}

template <class Lanes, class Function>
void for_each_lane(float* x, int64_t n, Function function) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) Lanes::store(x + i, function(Lanes::load(x + i)));
  if (i < n) Lanes::store_part(x + i, function(Lanes::load_part(x + i, n - i)), n - i);
}

template <class Lanes>
void activate_kernel(Activation activation, float* x, int64_t n) {
  switch (activation) {
    case Activation::gelu:
      return for_each_lane<Lanes>(x, n, [](auto lanes) { return gelu<Lanes>(lanes); });
    case Activation::gelu_new:
      return for_each_lane<Lanes>(x, n, [](auto lanes) { return gelu_new<Lanes>(lanes); });
    case Activation::relu:
      return for_each_lane<Lanes>(x, n, [](auto lanes) { return relu<Lanes>(lanes); });
    case Activation::silu:
      return for_each_lane<Lanes>(x, n, [](auto lanes) { return silu<Lanes>(lanes); });
  }
}

template <class Lanes>
void soft_cap_kernel(float cap, float* x, int64_t n) {
  for_each_lane<Lanes>(x, n, [&](auto lanes) { return soft_cap<Lanes>(lanes, cap); });
}

// y *= x
template <class Lanes>
void multiply_kernel(const float* x, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) Lanes::store(y + i, Lanes::mul(Lanes::load(x + i), Lanes::load(y + i)));
  if (i < n)
    Lanes::store_part(y + i, Lanes::mul(Lanes::load_part(x + i, n - i), Lanes::load_part(y + i, n - i)), n - i);
}

}  // namespace pleat
