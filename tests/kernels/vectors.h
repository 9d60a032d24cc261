#pragma once
// What the kernels' tests share: random values, and the instruction sets this processor has.
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/context.h"
#include "kernels/dtype.h"

namespace pleat {

inline std::vector<Isa> isas_here() {
  std::vector<Isa> isas;
  for (int isa = 0; isa <= int(detect_isa()); ++isa) isas.push_back(Isa(isa));
  return isas;
}

inline std::vector<float> random_floats(size_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(generator);
  return values;
}

inline float rounded_to_bf16(float value) { return to_f32(to_bf16(value)); }

inline bool same_bits(const float* a, const float* b, size_t n) { return std::memcmp(a, b, n * sizeof(float)) == 0; }
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && same_bits(a.data(), b.data(), a.size());
}

}  // namespace pleat
