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

__global__ void __launch_bounds__(kNormThreads)
    add_normed_kernel(int d, const float* x, const float* bias, Norm norm_of_x, Norm norm, float* residual, float* y) {
  const int64_t row = int64_t(blockIdx.x) * d;
  for (int i = int(threadIdx.x); i < d; i += kNormThreads)
    y[row + i] = bias != nullptr ? x[row + i] + bias[i] : x[row + i];
  norm_row(d, norm_of_x, y + row, y + row);
  for (int i = int(threadIdx.x); i < d; i += kNormThreads) residual[row + i] += y[row + i];
  norm_row(d, norm, residual + row, y + row);
}

// One block a head.
__global__ void __launch_bounds__(kNormThreads) norm_heads_kernel(int head_size, Norm norm, float* x, int x_stride) {
  float* const head = x + int64_t(blockIdx.x) * x_stride + int64_t(blockIdx.y) * head_size;
  norm_row(head_size, norm, head, head);
}

}  // namespace

void add_norm(cudaStream_t stream, int rows, int d, const Addend& added, const Norm& norm, float* residual, float* y) {
  launch(add_norm_kernel, {unsigned(rows), kNormThreads, 0, stream}, d, added, norm, residual, y);
}

void add_normed(cudaStream_t stream, int rows, int d, const float* x, const float* bias, const Norm& norm_of_x,
                const Norm& norm, float* residual, float* y) {
  launch(add_normed_kernel, {unsigned(rows), kNormThreads, 0, stream}, d, x, bias, norm_of_x, norm, residual, y);
}

void norm_heads(cudaStream_t stream, int rows, int heads, int head_size, const Norm& norm, float* x, int x_stride) {
  if (heads == 0) return;
  launch(norm_heads_kernel, {dim3(unsigned(rows), unsigned(heads)), kNormThreads, 0, stream}, head_size, norm, x,
         x_stride);
}

}  // namespace pleat::cuda
