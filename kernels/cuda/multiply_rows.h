#pragma once
// Products of a few rows of x with matrices, weights read once: what a decode step spends its time on.
#include <initializer_list>
#include <optional>

#include "kernels/activation.h"
#include "kernels/cuda/leaves.h"
#include "kernels/cuda/row_input.h"
#include "kernels/cuda/rows.h"

namespace pleat::cuda {

// y[r, n] = act(x[r] . w[n] + bias[n]).   f32: x as it is; bf16: x rounded to bf16; low-bit and planes: x quantised,
// see low_bit.h and planes.h. With leaves, which are ranges of the inputs, y is the nodes of that sum alone.
struct RowProduct {
  Rows w;                       // [outputs, x.width]
  const float* bias = nullptr;  // [outputs] or nullptr
  float* y = nullptr;           // [rows, y_stride], or [nodes][rows, y_stride]; y_stride >= outputs
  int y_stride = 0;
  Leaves leaves{};      // low-bit: of whole groups of 64
  int first_input = 0;  // where the row's inputs begin in x, where that is wider
  std::optional<Activation> activation{};
};

constexpr int kMaxProducts = 4;

// Up to kMaxProducts products with the same x in one launch (query, key and value; the fold and its predictor);
// matrices in planes have one each. Low-bit matrices must protect the inputs that x was quantised for. Bits of a row,
// and of a leaf, depend on it alone.
void multiply_rows(StreamHandle stream, const RowInput& x, std::initializer_list<RowProduct> products);

}  // namespace pleat::cuda
