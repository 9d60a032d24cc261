#include "kernels/cuda/norm.h"

#include "kernels/cuda/norm_row.h"

namespace pleat::cuda {
namespace {

// One block a row. A thread adds and normalises the same columns.
__global__ void __launch_bounds__(kNormThreads)
    add_norm_kernel(int d, Addend added, Norm norm, float* residual, float* y) {
  const int64_t row = int64_t(blockIdx.x) * d, all = int64_t(gridDim.x) * d;
  for (int i = int(threadIdx.x); i < d && added.x != nullptr; i += kNormThreads) {
    float sum = added.x[row + i];
    for (int term = 1; term < added.terms; ++term) sum += added.x[term * all + row + i];
    residual[row + i] += added.bias != nullptr ? sum + added.bias[i] : sum;
  }
  norm_row(d, norm, residual + row, y + row);
}

}  // namespace

void add_norm(cudaStream_t stream, int rows, int d, const Addend& added, const Norm& norm, float* residual, float* y) {
  launch(add_norm_kernel, {unsigned(rows), kNormThreads, 0, stream}, d, added, norm, residual, y);
}

}  // namespace pleat::cuda
