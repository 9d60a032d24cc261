#pragma once
// Views of row-major memory. They own nothing.
#include <cstdint>
#include <type_traits>

#include "kernels/dtype.h"

namespace pleat {

// [rows, cols], row-major, `stride` elements from row to row.
template <class T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  MatrixView() = default;
  MatrixView(T* data_, int64_t rows_, int64_t cols_) : MatrixView(data_, rows_, cols_, cols_) {}
  MatrixView(T* data_, int64_t rows_, int64_t cols_, int64_t stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  template <class U>
  requires(std::is_same_v<const U, T>) MatrixView(const MatrixView<U>& other)
      : MatrixView(other.data, other.rows, other.cols, other.stride) {}

  T* operator[](int64_t row) const { return data + row * stride; }
};

// A block of a weight matrix as it came from a file: element (input k, output n) stands at
// data[k * input_stride + n * output_stride], in elements of `dtype` (f32, bf16, f16 or i8); one of the strides is 1.
struct WeightBlock {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t inputs = 0;
  int64_t outputs = 0;
  int64_t input_stride = 0;
  int64_t output_stride = 0;
};

}  // namespace pleat
