#include "core/fold/gptq_columns.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/fold/linear_solve.h"
#include "kernels/check.h"
#include "kernels/context.h"

namespace pleat {
namespace {

constexpr double kDamping = 0.01;       // of the mean diagonal
constexpr int64_t kColumnsAtOnce = 64;  // whose errors reach the columns after them together

}  // namespace

std::vector<double> reordered(const std::vector<double>& square, const std::vector<int32_t>& order) {
  const size_t n = order.size(), d = size_t(std::llround(std::sqrt(double(square.size()))));
  std::vector<double> out(n * n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) out[i * n + j] = square[size_t(order[i]) * d + size_t(order[j])];
  return out;
}

std::vector<int32_t> natural_order(int64_t d) {
  std::vector<int32_t> order(static_cast<size_t>(d));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

std::vector<int32_t> order_by_activation(const std::vector<double>& second_moment, int64_t d) {
  std::vector<int32_t> order = natural_order(d);
  if (!second_moment.empty())
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return second_moment[size_t(a * (d + 1))] > second_moment[size_t(b * (d + 1))];
    });
  return order;
}

void gptq_columns(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment,
                  const std::vector<int32_t>& order, int64_t rows_together, ColumnRounding& rounding) {
  const int64_t rows = w.rows, d = w.cols, units = (rows + rows_together - 1) / rows_together;
  const bool compensates = !second_moment.empty();
  const Table factor = compensates ? inverse_cholesky(ctx, reordered(second_moment, order), d, kDamping) : Table();
  std::vector<float> error_weight(static_cast<size_t>(d), 1.0f);
  for (int64_t k = 0; k < d && compensates; ++k) error_weight[size_t(k)] = 1 / (factor[k][k] * factor[k][k]);
  Table rest(rows, d);  // in this order, with the errors so far compensated
  ctx.team().each(rows, [&](int, int64_t row) {
    for (int64_t k = 0; k < d; ++k) rest[row][k] = w[row][order[size_t(k)]];
  });

  for (int64_t begin = 0; begin < d; begin += kColumnsAtOnce) {
    const int64_t end = std::min(begin + kColumnsAtOnce, d), width = end - begin;
    Table errors(rows, width);
    ctx.team().split(units, [&](int, int64_t first_unit, int64_t last_unit) {
      std::vector<float> stored(static_cast<size_t>(rows_together));
      for (int64_t unit = first_unit; unit < last_unit; ++unit) {
        const int64_t first = unit * rows_together, last = std::min(first + rows_together, rows);
        for (int64_t j = 0; j < width; ++j) {
          rounding.round(first, last, begin + j, rest, error_weight.data(), stored.data());
          if (!compensates) continue;
          const float* u = factor[begin + j] + begin;
          for (int64_t row = first; row < last; ++row) {
            float* values = rest[row] + begin;
            const float error = (values[j] - stored[size_t(row - first)]) / u[j];
            errors[row][j] = error;
            for (int64_t k = j; k < width; ++k) values[k] -= error * u[k];
          }
        }
      }
    });
    if (!compensates || end == d) continue;
    const Table change = multiply(ctx, errors.view(), {factor[begin] + end, width, d - end, d});
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t k = end; k < d; ++k) rest[row][k] -= change[row][k - end];
    }
  }
}

}  // namespace pleat
