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
  Leaves leaves;
  float* work;

  GemmOutput(const GemmProduct& product)
      : bias(product.bias),
        y(product.y.data),
        stride(product.y.stride),
        rows(int(product.y.rows)),
        outputs(int(product.y.cols)),
        activates(product.activation.has_value()),
        activation(product.activation.value_or(Activation::gelu)),
        leaves(product.leaves),
        work(product.work) {}

  // Elements beyond the matrix's end are left out.
  __device__ bool has(int row, int output) const { return row < rows && output < outputs; }
  __device__ void put(int row, int output, float sum) const {
    if (has(row, output)) y[row * stride + output] = sum + (bias != nullptr ? bias[output] : 0.0f);
  }
  // What the same thread has put. (Apart, for a loop that is not unrolled: an activation is long.)
  __device__ void activate(int row, int output) const {
    if (has(row, output)) y[row * stride + output] = activated(activation, y[row * stride + output]);
  }

  // The inputs are summed in parts: leaves, or all of `width` as one.
  __device__ int parts() const { return leaves.count > 0 ? leaves.count : 1; }
  __device__ int begin(int part) const { return leaves.count > 0 ? leaves.offsets[part] : 0; }
  __device__ int end(int part, int width) const { return leaves.count > 0 ? leaves.offsets[part + 1] : width; }
};

// The stack machine of leaves.h for all elements of a thread, whose waiting sums lie in the work space.
class GemmLeaves {
 public:
  // Takes in a leaf's sums and clears them.   for_each(use): calls use(row, output, sum) for each of the elements
  template <class ForEach>
  __device__ void end_leaf(int leaf, const GemmOutput& out, ForEach for_each) {
    const uint8_t after = out.leaves.after[leaf];
    for (int adds = after & Leaves::kAdds; adds > 0; --adds) {
      const float* const left = out.work + int64_t(--pending_) * out.rows * out.outputs;
      for_each([&](int row, int output, float& sum) {
        if (out.has(row, output)) sum = left[int64_t(row) * out.outputs + output] + sum;
      });
    }
    const bool ends = (after & Leaves::kEnds) != 0;
    const int64_t stride = ends ? out.stride : out.outputs;
    float* const to = (ends ? out.y : out.work) + int64_t(ends ? nodes_++ : pending_++) * out.rows * stride;
    for_each([&](int row, int output, float& sum) {
      if (out.has(row, output)) to[row * stride + output] = sum;
      sum = 0;
    });
  }

 private:
  int pending_ = 0, nodes_ = 0;
};

}  // namespace pleat::cuda
