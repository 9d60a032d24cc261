#pragma once
// Where sums of products go. Included by .cu files only.
#include "kernels/cuda/activate.h"
#include "kernels/cuda/gemm.h"

namespace pleat::cuda {

struct GemmOutput {
  const float* bias;
  float* y;
  int64_t stride;
  int rows, outputs;
  bool activates;
  Activation activation;

  GemmOutput(const GemmProduct& product)
      : bias(product.bias),
        y(product.y.data),
        stride(product.y.stride),
        rows(int(product.y.rows)),
        outputs(int(product.y.cols)),
        activates(product.activation.has_value()),
        activation(product.activation.value_or(Activation::gelu)) {}

  // Elements beyond the matrix's end are left out.
  __device__ bool has(int row, int output) const { return row < rows && output < outputs; }
  __device__ void put(int row, int output, float sum) const {
    if (has(row, output)) y[row * stride + output] = sum + (bias != nullptr ? bias[output] : 0.0f);
  }
  // What the same thread has put. (Apart, for a loop that is not unrolled: an activation is long.)
  __device__ void activate(int row, int output) const {
    if (has(row, output)) y[row * stride + output] = activated(activation, y[row * stride + output]);
  }
};

}  // namespace pleat::cuda
