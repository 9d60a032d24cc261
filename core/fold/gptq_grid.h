#pragma once
// What the forms of GPTQ share: the grid of a group, and the order in which columns are taken.
#include <cstdint>
#include <vector>

namespace pleat {

constexpr double kDamping = 0.01;  // of the Hessian's mean diagonal

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

// The largest second moments first, or as they stand. second_moment [d, d], or empty.
std::vector<int32_t> column_order(const std::vector<double>& second_moment, int64_t d, bool by_activation);

// A square matrix with rows and columns in another order, or some of them.
std::vector<double> reordered(const std::vector<double>& square, const std::vector<int32_t>& order);

}  // namespace pleat
