#include "kernels/cuda/activation.h"

#include "kernels/cuda/activate.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256;

// A thread an element: blocks are (row, piece of its columns).
Launch over(MatrixView<const float> x, cudaStream_t stream) {
  return {dim3(unsigned(x.rows), unsigned((x.cols + kThreads - 1) / kThreads)), kThreads, 0, stream};
}

__global__ void __launch_bounds__(kThreads) activate_kernel(Activation activation, MatrixView<float> x) {
  let_next_start();
  wait_for_previous();
  const int64_t column = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= x.cols) return;
  float& value = x.data[blockIdx.x * x.stride + column];
  value = activated(activation, value);
}

__global__ void __launch_bounds__(kThreads)
    activate_gated_kernel(Activation activation, MatrixView<const float> gate, MatrixView<float> up) {
  let_next_start();
  wait_for_previous();
  const int64_t column = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= up.cols) return;
  up.data[blockIdx.x * up.stride + column] *= activated(activation, gate.data[blockIdx.x * gate.stride + column]);
}

__global__ void __launch_bounds__(kThreads) soft_cap_kernel(float cap, MatrixView<float> x) {
  let_next_start();
  wait_for_previous();
  const int64_t column = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= x.cols) return;
  float& value = x.data[blockIdx.x * x.stride + column];
  value = soft_capped(cap, value);
}

}  // namespace

void activate(cudaStream_t stream, Activation activation, MatrixView<float> x) {
  launch_overlapping(activate_kernel, over(x, stream), activation, x);
}

void activate_gated(cudaStream_t stream, Activation activation, MatrixView<const float> gate, MatrixView<float> up) {
  PLEAT_ASSERT(gate.rows == up.rows && gate.cols == up.cols, gate.rows, " x ", gate.cols, " and ", up.rows, " x ",
               up.cols);
  launch_overlapping(activate_gated_kernel, over(up, stream), activation, gate, up);
}

void soft_cap(cudaStream_t stream, float cap, MatrixView<float> x) {
  launch_overlapping(soft_cap_kernel, over(x, stream), cap, x);
}

}  // namespace pleat::cuda
