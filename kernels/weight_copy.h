#pragma once
// Reading a WeightBlock's elements as numbers.
#include <cstddef>

#include "kernels/check.h"
#include "kernels/tensor.h"

namespace pleat {

inline float value_of(float value) { return value; }
inline float value_of(bf16 value) { return to_f32(value); }
inline float value_of(f16 value) { return to_f32(value); }

// Calls copy(data) with the block's data in its own type, which has to be a float type.
template <class Copy>
void with_floats(const WeightBlock& block, Copy copy) {
  switch (block.dtype) {
    case DType::f32:
      return copy(static_cast<const float*>(block.data));
    case DType::bf16:
      return copy(static_cast<const bf16*>(block.data));
    case DType::f16:
      return copy(static_cast<const f16*>(block.data));
    default:
      PLEAT_REQUIRE(false, "weights in ", name_of(block.dtype), " where F32, BF16 or F16 is needed");
  }
}

// `count` numbers to a row of f32 or bf16.
template <class From>
void convert_row(const From* from, int64_t count, bool to_floats, std::byte* to) {
  if (to_floats)
    for (int64_t i = 0; i < count; ++i) reinterpret_cast<float*>(to)[i] = value_of(from[i]);
  else
    for (int64_t i = 0; i < count; ++i) reinterpret_cast<bf16*>(to)[i] = to_bf16(value_of(from[i]));
}

}  // namespace pleat
