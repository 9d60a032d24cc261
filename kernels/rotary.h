#pragma once
// Rotary position embedding (RoFormer, arXiv 2104.09864): the first `dims` values of a head are rotated in pairs by
// angles that grow with the token's position.
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/tensor.h"

namespace pleat {

class Context;

struct Rotary {
  std::vector<float> frequency;  // [dims / 2] radians a position
  float magnitude = 1;           // of the rotated values (YaRN's attention factor)
  bool interleaved = false;      // pairs (2i, 2i + 1) instead of (i, i + dims / 2)
  int dims() const { return int(2 * frequency.size()); }
};

// The cosines and sines of a step's rows, computed once for all heads and layers.
struct RotaryAngles {
  std::vector<float> cosine, sine;  // [rows, dims / 2]
};
void compute_angles(Context& ctx, const Rotary& rotary, std::span<const AttentionRow> rows, RotaryAngles& angles);

// Rotates every head of x [rows, heads * head_size] in place; rotary.dims() <= head_size, the rest stays.
void rotate(Context& ctx, const Rotary& rotary, const RotaryAngles& angles, int head_size, MatrixView<float> x);

}  // namespace pleat
