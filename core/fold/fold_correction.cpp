#include <cmath>

#include "core/fold/layer_fold.h"
#include "core/fold/linear_solve.h"

namespace pleat {
namespace {

constexpr int64_t kHeldOutEvery = 4;

// [x, 1]^T [x, 1] and [x, 1]^T target over some rows.
struct NormalEquations {
  int64_t d = 0;
  std::vector<double> gram;    // [d + 1, d + 1]
  std::vector<double> target;  // [d + 1, d]

  NormalEquations(Context& ctx, const Table& x, const Table& missing) : d(x.cols) {
    Table extended(x.rows, d + 1);
    for (int64_t row = 0; row < x.rows; ++row) {
      std::copy_n(x[row], d, extended[row]);
      extended[row][d] = 1;
    }
    gram.resize(size_t((d + 1) * (d + 1)));
    add_second_moment(ctx, extended.view(), gram);
    const Table product = multiply(ctx, transposed(extended.view()).view(), missing.view());
    target.assign(product.data.begin(), product.data.end());
  }
  void add(const NormalEquations& o) {
    for (size_t i = 0; i < gram.size(); ++i) gram[i] += o.gram[i];
    for (size_t i = 0; i < target.size(); ++i) target[i] += o.target[i];
  }
  std::vector<double> solve(double ridge) const { return ridge_solve(gram, d + 1, target, d, ridge); }
};

FoldCorrection as_correction(const std::vector<double>& solution, int64_t d) {
  FoldCorrection out{Table(d, d), std::vector<float>(size_t(d))};
  for (int64_t i = 0; i < d * d; ++i) out.weight.data[size_t(i)] = float(solution[size_t(i)]);
  for (int64_t i = 0; i < d; ++i) out.bias[size_t(i)] = float(solution[size_t(d * d + i)]);
  return out;
}

double squared_rest(Context& ctx, const FoldCorrection& correction, const Table& x, const Table& missing) {
  const Table product = multiply(ctx, x.view(), correction.weight.view());
  double sum = 0;
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t i = 0; i < x.cols; ++i) {
      const double rest = double(missing[row][i]) - product[row][i] - correction.bias[size_t(i)];
      sum += rest * rest;
    }
  }
  return sum;
}

Table rows_of(const Table& x, bool held_out) {
  Table out(0, x.cols);
  for (int64_t row = 0; row < x.rows; ++row) {
    if ((row % kHeldOutEvery == 0) != held_out) continue;
    out.data.insert(out.data.end(), x[row], x[row] + x.cols);
    ++out.rows;
  }
  return out;
}

}  // namespace

FoldCorrection correct_fold(Context& ctx, const Table& x, const Table& missing) {
  const int64_t d = x.cols;
  const Table held_x = rows_of(x, true), held_missing = rows_of(missing, true);
  NormalEquations equations(ctx, rows_of(x, false), rows_of(missing, false));
  FoldCorrection none{Table(d, d), std::vector<float>(size_t(d))};
  double best_error = squared_rest(ctx, none, held_x, held_missing), best_ridge = 0;
  for (double ridge : {1e-3, 1e-2, 1e-1}) {
    const double error = squared_rest(ctx, as_correction(equations.solve(ridge), d), held_x, held_missing);
    if (error < best_error) best_error = error, best_ridge = ridge;
  }
  if (best_ridge == 0) return none;
  equations.add(NormalEquations(ctx, held_x, held_missing));
  return as_correction(equations.solve(best_ridge), d);
}

}  // namespace pleat
