#include "kernels/cuda/norm.h"

#include "kernels/cuda/norm_row.h"

namespace pleat::cuda {
namespace {

constexpr int kMostThreads = kNormSums * kWarp;

// One block a row, which stays in shared memory; a thread keeps to its columns.
template <int kWidth>
__global__ void __launch_bounds__(kMostThreads)
    add_norm_kernel(int d, Addend added, Norm norm, float* residual, float* y) {
  __shared__ NormSums sums;
  float* const row = dynamic_shared<float>();
  const int64_t begin = int64_t(blockIdx.x) * d, all = int64_t(gridDim.x) * d;
  let_next_start();
  prefetch_norm<kWidth>(d, norm);
  wait_for_previous();
  for_columns_of_row<kWidth>(d, [&](int i) {
    auto x = Floats<kWidth>::load(residual + begin + i);
    if (added.x != nullptr) {
      auto sum = Floats<kWidth>::load(added.x + begin + i);
      for (int term = 1; term < added.terms; ++term) sum = sum + Floats<kWidth>::load(added.x + term * all + begin + i);
      x = x + (added.bias != nullptr ? sum + Floats<kWidth>::load(added.bias + i) : sum);
      x.store(residual + begin + i);
    }
    x.store(row + i);
  });
  norm_row<kWidth>(d, norm, row, y + begin, sums);
}

template <int kWidth>
__global__ void __launch_bounds__(kMostThreads)
    add_normed_kernel(int d, const float* x, const float* bias, Norm norm_of_x, Norm norm, float* residual, float* y) {
  __shared__ NormSums sums_of_x, sums;
  float* const row = dynamic_shared<float>();
  const int64_t begin = int64_t(blockIdx.x) * d;
  let_next_start();
  prefetch_norm<kWidth>(d, norm_of_x);
  prefetch_norm<kWidth>(d, norm);
  wait_for_previous();
  for_columns_of_row<kWidth>(d, [&](int i) {
    const auto of_x = Floats<kWidth>::load(x + begin + i);
    (bias != nullptr ? of_x + Floats<kWidth>::load(bias + i) : of_x).store(row + i);
  });
  norm_row<kWidth>(d, norm_of_x, row, row, sums_of_x);
  for_columns_of_row<kWidth>(d, [&](int i) {
    const auto sum = Floats<kWidth>::load(residual + begin + i) + Floats<kWidth>::load(row + i);
    sum.store(residual + begin + i);
    sum.store(row + i);
  });
  norm_row<kWidth>(d, norm, row, y + begin, sums);
}

// One block a head.
template <int kWidth>
__global__ void __launch_bounds__(kMostThreads) norm_heads_kernel(int head_size, Norm norm, float* x, int x_stride) {
  __shared__ NormSums sums;
  float* const head = x + int64_t(blockIdx.x) * x_stride + int64_t(blockIdx.y) * head_size;
  let_next_start();
  prefetch_norm<kWidth>(head_size, norm);
  wait_for_previous();
  norm_row<kWidth>(head_size, norm, head, head, sums);
}

// run(width) with how many neighbouring columns of a row of d a thread takes at once.
template <class Run>
void with_width(int d, Run run) {
  if (d % 4 == 0)
    run(std::integral_constant<int, 4>());
  else
    run(std::integral_constant<int, 1>());
}

// Few rows get many threads each, many rows blocks of which several share a processor.
Launch a_block_each(dim3 rows, int d, int width, size_t shared, cudaStream_t stream) {
  constexpr int kManyRows = 64, kThreads = 256;
  const int most = norm_threads(d, width);
  return {rows, unsigned(rows.x > kManyRows ? std::min(most, kThreads) : most), shared, stream};
}

}  // namespace

void add_norm(cudaStream_t stream, int rows, int d, const Addend& added, const Norm& norm, float* residual, float* y) {
  with_width(d, [&](auto width) {
    launch_overlapping(add_norm_kernel<width()>,
                       a_block_each(unsigned(rows), d, width(), size_t(d) * sizeof(float), stream), d, added, norm,
                       residual, y);
  });
}

void add_normed(cudaStream_t stream, int rows, int d, const float* x, const float* bias, const Norm& norm_of_x,
                const Norm& norm, float* residual, float* y) {
  with_width(d, [&](auto width) {
    launch_overlapping(add_normed_kernel<width()>,
                       a_block_each(unsigned(rows), d, width(), size_t(d) * sizeof(float), stream), d, x, bias,
                       norm_of_x, norm, residual, y);
  });
}

void norm_heads(cudaStream_t stream, int rows, int heads, int head_size, const Norm& norm, float* x, int x_stride) {
  if (heads == 0) return;
  with_width(head_size | x_stride, [&](auto width) {
    launch_overlapping(norm_heads_kernel<width()>,
                       a_block_each(dim3(unsigned(rows), unsigned(heads)), head_size, width(), 0, stream), head_size,
                       norm, x, x_stride);
  });
}

}  // namespace pleat::cuda
