#include "core/fold/line_fit.h"

#include <cmath>
#include <cstring>

namespace pleat {

// By Cholesky with a little ridge.
Line LineFit::line_or(const Line& before) const {
  if (count_ == 0) return before;
  double a[3][3], b[3];
  std::memcpy(a, a_, sizeof a);
  std::memcpy(b, b_, sizeof b);
  for (int i = 0; i < 3; ++i) {
    a[i][i] += 1e-9 * a[i][i] + 1e-12;
    for (int j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (int k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      if (i == j && sum <= 0) return before;
      a[i][j] = i == j ? std::sqrt(sum) : sum / a[j][j];
    }
  }
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (int i = 2; i >= 0; --i) {
    for (int k = i + 1; k < 3; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return {b[0], b[1], b[2]};
}

}  // namespace pleat
