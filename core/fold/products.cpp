#include "core/fold/products.h"

namespace pleat {

Table transposed(MatrixView<const float> x) {
  Table out(x.cols, x.rows);
  constexpr int64_t kTile = 32;
  for (int64_t row = 0; row < x.rows; row += kTile) {
    for (int64_t col = 0; col < x.cols; col += kTile) {
      for (int64_t r = row; r < std::min(row + kTile, x.rows); ++r) {
        for (int64_t c = col; c < std::min(col + kTile, x.cols); ++c) out[c][r] = x[r][c];
      }
    }
  }
  return out;
}

PackedMatrix packed(WeightFormat format, MatrixView<const float> w) {
  PackedMatrix out(format, w.rows, w.cols, {0, w.rows});
  out.pack(0, 0, {w.data, DType::f32, w.rows, w.cols, w.stride, 1});
  return out;
}

PackedMatrix packed_transposed(WeightFormat format, MatrixView<const float> w_transposed) {
  PackedMatrix out(format, w_transposed.cols, w_transposed.rows, {0, w_transposed.cols});
  out.pack(0, 0, {w_transposed.data, DType::f32, w_transposed.cols, w_transposed.rows, 1, w_transposed.stride});
  return out;
}

Table multiply(Context& ctx, MatrixView<const float> x, MatrixView<const float> w) {
  Table y(x.rows, w.cols);
  matmul(ctx, x, packed(WeightFormat::f32, w), nullptr, y.view());
  return y;
}

void add_second_moment(Context& ctx, MatrixView<const float> x, std::vector<double>& sum) {
  const Table product = multiply(ctx, transposed(x).view(), x);
  for (size_t i = 0; i < product.data.size(); ++i) sum[i] += product.data[i];
}

}  // namespace pleat
