#pragma once
// Activations and the soft cap of one element, as kernels/activation.h defines them. Included by .cu files only.
#include "device_language.h"
#include "kernels/activation.h"

namespace pleat::cuda {

// NaN stays NaN.
__device__ inline float activated(Activation activation, float x) {
  switch (activation) {
    case Activation::gelu:
      return 0.5f * x * erfcf(-0.70710678f * x);  // x P(X < x): nothing cancels
    case Activation::gelu_new:
      // x / 2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
      return x / (1.0f + expf(-1.5957691216f * x * (1.0f + 0.044715f * x * x)));
    case Activation::relu:
      return x < 0 ? 0.0f : x;
    case Activation::silu:
      break;
  }
  return x / (1.0f + expf(-x));
}

__device__ inline float soft_capped(float cap, float x) { return cap * tanhf(x / cap); }

}  // namespace pleat::cuda
