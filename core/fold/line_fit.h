#pragma once
// Least squares of a neuron's activation on what it is made of: y ~ up u + gate g + constant; of plain neurons u is z
// and g 0.
#include <cstdint>

namespace pleat {

struct Line {
  double up = 0, gate = 0, constant = 0;
};

class LineFit {
 public:
  void add(double u, double g, double y) {
    const double x[3] = {u, g, 1};
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j <= i; ++j) a_[i][j] += x[i] * x[j];
      b_[i] += x[i] * y;
    }
    ++count_;
  }
  // `before` where there is nothing to fit on.
  Line line_or(const Line& before) const;

 private:
  double a_[3][3] = {}, b_[3] = {};
  int64_t count_ = 0;
};

}  // namespace pleat
