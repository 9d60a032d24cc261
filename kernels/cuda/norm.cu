#include "kernels/cuda/norm.h"

#include "kernels/cuda/norm_row.h"

namespace pleat::cuda {
namespace {

// One block a row.
__global__ void __launch_bounds__(kNormThreads)
    add_norm_kernel(int d, const float* x, Norm norm, float* residual, float* y) {
  const int64_t row = int64_t(blockIdx.x) * d;
  norm_row(d, x != nullptr ? x + row : nullptr, norm, residual + row, y + row);
}

}  // namespace

void add_norm(cudaStream_t stream, int rows, int d, const float* x, const Norm& norm, float* residual, float* y) {
  launch(add_norm_kernel, {unsigned(rows), kNormThreads, 0, stream}, d, x, norm, residual, y);
}

}  // namespace pleat::cuda
