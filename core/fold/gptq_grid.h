#pragma once
// The grid that the weights of a group are rounded to.
#include <cstdint>

namespace pleat {

// Codes of the weights of a group: weight = minimum + scale * (code - zero), scale and minimum rounded to bf16.
struct GroupGrid {
  float scale = 0, minimum = 0;
  int least = 0, largest = 1;  // codes
  int zero = 0;                // of the code that means `minimum`

  int code(float w) const;
  float value(int code) const { return minimum + scale * float(code - zero); }
  double error(const float* w, int64_t n) const;
};
GroupGrid grid_of(const float* w, int64_t n, int bits);

}  // namespace pleat
