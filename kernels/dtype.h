#pragma once
// Element types of weights and checkpoints, and scalar conversions. Activations are f32 in memory.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pleat {

enum class DType : uint8_t { f32, bf16, f16, i8, u8, i32, i64 };

size_t size_of(DType dtype);
std::string_view name_of(DType dtype);  // "F32", "BF16", ... as safetensors writes them

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

inline float to_f32(bf16 value) { return std::bit_cast<float>(uint32_t(value.bits) << 16); }
// Round to nearest even; NaN stays NaN.
inline bf16 to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {uint16_t((is_nan ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
// Without branches: the exponent is corrected by a product, which makes normal numbers of f16's subnormal ones.
inline float to_f32(f16 value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000u) << 16, rest = uint32_t(value.bits & 0x7fffu) << 13;
  const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(rest) * 0x1p112f);
  return std::bit_cast<float>(sign | scaled | (rest >= 0x0f800000u ? 0x7f800000u : 0u));
}

}  // namespace pleat
