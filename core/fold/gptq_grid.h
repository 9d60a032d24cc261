#pragma once
// The grid that the weights of a group are rounded to.
#include <cstdint>
#include <optional>

#include "core/fold/plane_fit.h"

namespace pleat {

// Codes of the weights of a group: weight = minimum + scale * (code - zero), scale and minimum rounded to bf16; of
// binary-coded planes minimum + scale * the sum of the scales whose signs are set (kernels/low_bit_row.h).
struct GroupGrid {
  float scale = 0, minimum = 0;
  int least = 0, largest = 1;  // codes
  int zero = 0;                // of the code that means `minimum`
  std::optional<PlaneFit> planes;

  int code(float w) const;
  float value(int code) const { return minimum + scale * float(planes ? planes->set(code) : code - zero); }
  double error(const float* w, int64_t n) const;
};
GroupGrid grid_of(const float* w, int64_t n, int bits);
GroupGrid plane_grid(const float* w, int64_t n, int planes);  // n <= 64

}  // namespace pleat
