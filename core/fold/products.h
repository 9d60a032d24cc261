#pragma once
// Owned f32 matrices and the heavy products of the offline pass, all through the packed kernels.
#include <cstdint>
#include <vector>

#include "kernels/context.h"
#include "kernels/matmul.h"
#include "kernels/tensor.h"

namespace pleat {

// [rows, cols] f32, row-major.
struct Table {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> data;

  Table() = default;
  Table(int64_t rows_, int64_t cols_) : rows(rows_), cols(cols_), data(size_t(rows_ * cols_)) {}
  float* operator[](int64_t row) { return data.data() + row * cols; }
  const float* operator[](int64_t row) const { return data.data() + row * cols; }
  MatrixView<float> view() { return {data.data(), rows, cols}; }
  MatrixView<const float> view() const { return {data.data(), rows, cols}; }
  MatrixView<const float> slice(int64_t begin, int64_t end) const { return {(*this)[begin], end - begin, cols}; }
};

Table transposed(MatrixView<const float> x);

// W as it stands [inputs, outputs], or given by its transpose [outputs, inputs].
PackedMatrix packed(WeightFormat format, MatrixView<const float> w);
PackedMatrix packed_transposed(WeightFormat format, MatrixView<const float> w_transposed);

// x [m, k] w [k, n] in f32.
Table multiply(Context& ctx, MatrixView<const float> x, MatrixView<const float> w);

// sum [d, d] += x^T x for x [m, d]; f32 inside a call, f64 across calls.
void add_second_moment(Context& ctx, MatrixView<const float> x, std::vector<double>& sum);

}  // namespace pleat
