#pragma once
// Products of many rows of x with a matrix: what a prompt spends its time on. blas_lt.h has the same for bf16 by
// cuBLASLt; these kernels are for what must keep its bits.
#include <optional>

#include "kernels/activation.h"
#include "kernels/cuda/gemm_input.h"
#include "kernels/cuda/leaves.h"
#include "kernels/cuda/rows.h"

namespace pleat::cuda {

// y[r, n] = activation(x[r] . w[n] + bias[n]); its input is prepared for w.
//   f32       x as it is, fused multiply-adds with k ascending
//   bf16      x rounded to bf16, on tensor cores, a fixed order over k
//   low-bit   the arithmetic of kernels/low_bit.h on int8 tensor cores: over the groups g, ascending, y from 0,
//               y = fma(s, fma(scale, codes . q, minimum * sum(q)), y)
//             then y += x * weight for the protected inputs, ascending. These are matmul()'s bits on the CPU.
// With leaves, which are ranges of the inputs, y is the nodes of that sum, without bias and activation: a leaf is
// summed like a product of its own and they are added along the tree, whatever rank holds which of them. An element's
// bits depend on its rows of x and w, not on the other rows nor on their number: prompts may be cut into chunks
// anywhere. multiply_rows() adds the same terms in another order: a row that must keep its bits goes through the same
// one of the two, however few rows there are.
struct GemmProduct {
  Rows w;                       // [outputs, width]
  const float* bias = nullptr;  // [outputs] or nullptr
  std::optional<Activation> activation{};
  MatrixView<float> y;    // [rows, outputs], or the first of [nodes] such matrices, one behind the other
  Leaves leaves{};        // low-bit: of whole groups of 64
  float* work = nullptr;  // [leaves.pending][rows, outputs]
};

void gemm(StreamHandle stream, const GemmInput& x, const GemmProduct& product);

}  // namespace pleat::cuda
