#include "kernels/layer_norm.h"

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

// A few rows are done before the team would have started.
template <class Work>
void for_rows(Context& ctx, int64_t rows, int64_t cols, Work work) {
  if (rows * cols <= 8192 || rows == 1) return work(0, 0, rows);
  ctx.team().split(rows, work);
}

}  // namespace

void layer_norm(Context& ctx, MatrixView<const float> x, const float* weight, const float* bias, float eps,
                MatrixView<float> y) {
  PLEAT_ASSERT(x.rows == y.rows && x.cols == y.cols, x.rows, " x ", x.cols, " and ", y.rows, " x ", y.cols);
  const auto function = vector_ops(ctx.isa()).layer_norm_row;
  for_rows(ctx, x.rows, x.cols, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) function(x[row], weight, bias, eps, y[row], x.cols);
  });
}

void rms_norm(Context& ctx, MatrixView<const float> x, const float* weight, float eps, MatrixView<float> y) {
  PLEAT_ASSERT(x.rows == y.rows && x.cols == y.cols, x.rows, " x ", x.cols, " and ", y.rows, " x ", y.cols);
  const auto function = vector_ops(ctx.isa()).rms_norm_row;
  for_rows(ctx, x.rows, x.cols, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) function(x[row], weight, eps, y[row], x.cols);
  });
}

void add(Context& ctx, MatrixView<const float> x, const float* bias, MatrixView<float> y) {
  PLEAT_ASSERT(x.rows == y.rows && x.cols == y.cols, x.rows, " x ", x.cols, " and ", y.rows, " x ", y.cols);
  const auto function = vector_ops(ctx.isa()).add_row;
  for_rows(ctx, x.rows, x.cols, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) function(x[row], bias, y[row], x.cols);
  });
}

}  // namespace pleat
