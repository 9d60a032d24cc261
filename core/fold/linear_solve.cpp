#include "core/fold/linear_solve.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <Eigen/Cholesky>
#include <Eigen/Core>
#pragma GCC diagnostic pop

#include "kernels/check.h"

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

Table inverse_cholesky(const std::vector<double>& h, int64_t d, double damping) {
  Matrix inverse = Matrix::Identity(d, d);
  const Eigen::LLT<Matrix> direct(damped(h, d, damping));
  PLEAT_ASSERT(direct.info() == Eigen::Success);
  direct.solveInPlace(inverse);
  const Eigen::LLT<Matrix> of_inverse(inverse);
  PLEAT_ASSERT(of_inverse.info() == Eigen::Success);
  Table out(d, d);
  Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(out.data.data(), d, d) =
      Matrix(of_inverse.matrixU()).cast<float>();
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
