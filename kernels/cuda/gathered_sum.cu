#include "kernels/cuda/gathered_sum.h"

#include "kernels/cuda/sum_terms.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256;

// A thread sums kWidth neighbouring elements.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    gathered_kernel(SumOrder order, int64_t size, int d, const float* gathered, SumTarget target) {
  let_next_start();
  wait_for_previous();
  const int64_t at = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (at >= size) return;
  const auto where = [&](SumOrder::Term term) {
    return gathered + (int64_t(term.rank) * order.most_nodes + term.node) * size + at;
  };
  target.take(at, int(at % d), sum_terms<kWidth>(order, where));
}

void run(cudaStream_t stream, const SumOrder& order, int rows, int d, const float* gathered, const SumTarget& target) {
  const int width = d % 4 == 0 ? 4 : 1;
  const int64_t size = int64_t(rows) * d, a_block = int64_t(kThreads) * width;
  const unsigned blocks = unsigned((size + a_block - 1) / a_block);
  launch_overlapping(width == 4 ? gathered_kernel<4> : gathered_kernel<1>, {blocks, kThreads, 0, stream}, order, size,
                     d, gathered, target);
}

}  // namespace

void sum_gathered(cudaStream_t stream, const SumOrder& order, int rows, int d, const float* gathered, float* out) {
  run(stream, order, rows, d, gathered, {.out = out});
}

void add_gathered(cudaStream_t stream, const SumOrder& order, int rows, int d, const float* gathered, const float* bias,
                  float* residual) {
  run(stream, order, rows, d, gathered, {.bias = bias, .residual = residual});
}

}  // namespace pleat::cuda
