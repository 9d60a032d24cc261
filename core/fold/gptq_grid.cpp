#include "core/fold/gptq_grid.h"

#include <algorithm>
#include <cmath>

#include "kernels/dtype.h"
#include "kernels/planes.h"

namespace pleat {

int GroupGrid::code(float w) const {
  if (scale == 0) return zero;
  if (planes) return planes->nearest(2 * w / scale);
  return int(std::clamp(std::nearbyint((w - minimum) / scale) + float(zero), float(least), float(largest)));
}

double GroupGrid::error(const float* w, int64_t n) const {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double(value(code(w[i])) - w[i]) * (value(code(w[i])) - w[i]);
  return sum;
}

namespace {

float rounded(float x) { return to_f32(to_bf16(x)); }
// The next bf16 below one that is not 0.
float below(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  return __builtin_bit_cast(float, x > 0 ? bits - 0x10000u : bits + 0x10000u);
}

GroupGrid binary_grid(const float* w, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::fabs(w[i]);
  const float half = rounded(float(sum / double(n)));
  return {2 * half, -half, 0, 1, 0, {}};
}

GroupGrid clipped_grid(const float* w, int64_t n, int bits) {
  const auto [low, high] = std::minmax_element(w, w + n);
  const float middle = (*low + *high) / 2, half = (*high - *low) / 2;
  const int largest = (1 << bits) - 1;
  GroupGrid best;
  double best_error = INFINITY;
  for (float clip : {1.0f, 0.9f, 0.8f, 0.7f, 0.6f}) {
    GroupGrid grid{rounded(2 * half * clip / float(largest)), rounded(middle - half * clip), 0, largest, 0, {}};
    // Far from 0 bf16 holds few minimums: the steps begin at one that is there and reach as far as they did.
    if (const float moved = middle - half * clip - grid.minimum; std::fabs(moved) > grid.scale) {
      if (moved < 0) grid.minimum = below(grid.minimum);
      grid.scale = rounded((middle + half * clip - grid.minimum) / float(largest));
    }
    const double error = grid.error(w, n);
    if (error < best_error) best = grid, best_error = error;
  }
  return best;
}

GroupGrid symmetric_grid(const float* w, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(w[i]));
  return {rounded(largest / 127), 0, 1, 255, 128, {}};
}

}  // namespace

GroupGrid grid_of(const float* w, int64_t n, int bits) {
  if (bits == 1) return binary_grid(w, n);
  return bits == 8 ? symmetric_grid(w, n) : clipped_grid(w, n, bits);
}

GroupGrid plane_grid(const float* w, int64_t n, int planes) {
  float largest = 0, x[64], even[64];
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(w[i]));
  const float power = largest > 0 ? std::ceil(std::log2(largest / float(kPlaneLimit))) : 0.0f;
  const float unit = std::ldexp(1.0f, int(std::clamp(power, -120.0f, 100.0f)));
  for (int64_t i = 0; i < n; ++i) x[i] = w[i] / unit, even[i] = 1;
  GroupGrid out;
  out.planes = fit_planes(x, even, n, planes);
  out.scale = 2 * unit;  // both are bf16 as they are
  out.minimum = unit * float(out.planes->level(0));
  return out;
}

}  // namespace pleat
