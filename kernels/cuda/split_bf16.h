#pragma once
// Numbers as the sum of two in bf16, which together have 16 bits of it: what tensor cores multiply without losing
// more. Included by .cu files only.
#include "device_language.h"

namespace pleat::cuda {

// Two neighbouring numbers, the first in the low half of each word.
struct SplitPair {
  unsigned high, low;  // a number is high + low, to 2^-16 of it
};

__device__ inline unsigned bf16_pair(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const unsigned*>(&pair);
}

__device__ inline SplitPair split_pair(float first, float second) {
  const unsigned high = bf16_pair(first, second);
  return {high, bf16_pair(first - __uint_as_float(high << 16), second - __uint_as_float(high & 0xffff0000u))};
}

}  // namespace pleat::cuda
