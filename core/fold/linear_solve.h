#pragma once
// The two dense factorisations of the offline pass (Eigen inside).
#include <cstdint>
#include <vector>

#include "core/fold/products.h"

namespace pleat {

// U upper triangular [d, d] with U^T U = (H + damping * mean(diag H) * 1)^-1, for a positive semi-definite H [d, d].
Table inverse_cholesky(Context& ctx, const std::vector<double>& h, int64_t d, double damping);

// D [d, n] with (G + ridge * mean(diag G) * 1) D = P, for a positive semi-definite G [d, d] and P [d, n].
std::vector<double> ridge_solve(const std::vector<double>& g, int64_t d, const std::vector<double>& p, int64_t n,
                                double ridge);

}  // namespace pleat
