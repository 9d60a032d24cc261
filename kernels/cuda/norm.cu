#include "kernels/cuda/norm.h"

#include "kernels/cuda/sums.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256;

// One block a row. The mean is taken off before squares are summed, as the CPU does.
__global__ void __launch_bounds__(kThreads)
    add_norm_kernel(int d, const float* x, Norm norm, float* residual, float* y) {
  const int64_t row = blockIdx.x;
  residual += row * d;
  float sum = 0;
  for (int i = int(threadIdx.x); i < d; i += kThreads) {
    if (x != nullptr) residual[i] += x[row * d + i];
    sum += residual[i];
  }
  const float mean = norm.centred ? block_sum(sum) / float(d) : 0.0f;
  float squares = 0;
  for (int i = int(threadIdx.x); i < d; i += kThreads) squares += (residual[i] - mean) * (residual[i] - mean);
  const float scale = 1.0f / sqrtf(block_sum(squares) / float(d) + norm.eps);
  for (int i = int(threadIdx.x); i < d; i += kThreads) {
    const float value = (residual[i] - mean) * scale * norm.weight[i];
    y[row * d + i] = norm.bias != nullptr ? value + norm.bias[i] : value;
  }
}

}  // namespace

void add_norm(cudaStream_t stream, int rows, int d, const float* x, const Norm& norm, float* residual, float* y) {
  launch(add_norm_kernel, {unsigned(rows), kThreads, 0, stream}, d, x, norm, residual, y);
}

}  // namespace pleat::cuda
