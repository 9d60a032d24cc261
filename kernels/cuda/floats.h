#pragma once
// A few neighbouring floats, which a thread reads and writes at once. Included by .cu files only.
#include "device_language.h"

namespace pleat::cuda {

template <int kCount>
struct alignas(kCount * sizeof(float)) Floats {
  float at[kCount];
  __device__ static Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
  __device__ void store(float* to) const { *reinterpret_cast<Floats*>(to) = *this; }
};
template <int kCount>
__device__ Floats<kCount> operator+(Floats<kCount> a, const Floats<kCount>& b) {
  for (int i = 0; i < kCount; ++i) a.at[i] += b.at[i];
  return a;
}

}  // namespace pleat::cuda
