#include "core/fold/linear_solve.h"

#include <algorithm>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <Eigen/Cholesky>
#include <Eigen/Core>
#pragma GCC diagnostic pop

#include "kernels/check.h"
#include "kernels/context.h"

namespace pleat {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix damped(const std::vector<double>& h, int64_t d, double damping) {
  PLEAT_ASSERT(int64_t(h.size()) == d * d);
  Matrix out = Eigen::Map<const Matrix>(h.data(), d, d);
  const double mean = out.diagonal().mean();
  out.diagonal().array() += damping * (mean > 0 ? mean : 1.0);
  return out;
}

}  // namespace

// With the rows and columns of H in reverse, H = R R^T for an upper triangular R, whose inverse is U.
Table inverse_cholesky(Context& ctx, const std::vector<double>& h, int64_t d, double damping) {
  constexpr int64_t kColumns = 64;
  const Eigen::LLT<Matrix> reversed(damped(h, d, damping).reverse());
  PLEAT_ASSERT(reversed.info() == Eigen::Success);
  const Matrix r = Matrix(reversed.matrixL()).reverse();
  Table out(d, d);
  Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> u(out.data.data(), d, d);
  ctx.team().each((d + kColumns - 1) / kColumns, [&](int, int64_t block) {
    const int64_t begin = block * kColumns, end = std::min(begin + kColumns, d);
    Matrix columns = Matrix::Identity(d, d).block(0, begin, end, end - begin);  // 0 further down
    r.topLeftCorner(end, end).triangularView<Eigen::Upper>().solveInPlace(columns);
    u.block(0, begin, end, end - begin) = columns.cast<float>();
  });
  return out;
}

std::vector<double> ridge_solve(const std::vector<double>& g, int64_t d, const std::vector<double>& p, int64_t n,
                                double ridge) {
  PLEAT_ASSERT(int64_t(p.size()) == d * n);
  const Eigen::LLT<Matrix> factor(damped(g, d, ridge));
  PLEAT_ASSERT(factor.info() == Eigen::Success);
  std::vector<double> out = p;
  Eigen::Map<Matrix> solution(out.data(), d, n);
  factor.solveInPlace(solution);
  return out;
}

}  // namespace pleat
