#pragma once
// The sum of all ranks' terms at a few neighbouring elements, and where it goes. Included by .cu files only.
#include "kernels/cuda/floats.h"
#include "kernels/cuda/sum_order.h"

namespace pleat::cuda {

// load(first, loaded): the elements of terms [first, first + kLoads), as far as there are so many, on their way at
// once.
template <int kWidth, int kLoads, class Load>
__device__ Floats<kWidth> add_terms(const SumOrder& order, Load load) {
  Floats<kWidth> pending[kMaxPending], sum{};
  int count = 0;
  for (int first = 0; first < order.terms; first += kLoads) {
    Floats<kWidth> loaded[kLoads];
    load(first, loaded);
    for (int k = 0; k < kLoads; ++k)
      if (first + k < order.terms) {
        int adds = order.term[first + k].adds;
        if (adds > 0) {
          sum = sum + loaded[k];
          for (; adds > 1; --adds) sum = pending[--count] + sum;
        } else {
          if (first + k > 0) pending[count++] = sum;
          sum = loaded[k];
        }
      }
  }
  return sum;
}

// at(term): where the elements of that term are.
template <int kWidth, class At>
__device__ Floats<kWidth> sum_terms(const SumOrder& order, At at) {
  constexpr int kLoads = 8;
  return add_terms<kWidth, kLoads>(order, [&](int first, Floats<kWidth>(&loaded)[kLoads]) {
    for (int k = 0; k < kLoads; ++k)
      if (first + k < order.terms) loaded[k] = Floats<kWidth>::load(at(order.term[first + k]));
  });
}

// out = sum, or residual += sum + bias.
struct SumTarget {
  float* out = nullptr;         // [rows, d]
  const float* bias = nullptr;  // [d] or nullptr
  float* residual = nullptr;    // [rows, d]; nullptr: out

  // at: the element of [rows, d], in this column.
  template <int kWidth>
  __device__ void take(int64_t at, int column, Floats<kWidth> sum) const {
    if (residual == nullptr) return sum.store(out + at);
    if (bias != nullptr) sum = sum + Floats<kWidth>::load(bias + column);
    (Floats<kWidth>::load(residual + at) + sum).store(residual + at);
  }
};

}  // namespace pleat::cuda
