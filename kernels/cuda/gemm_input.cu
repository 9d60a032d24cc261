#include "kernels/cuda/gemm_input.h"

#include "kernels/cuda/quantise_group.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

int64_t groups_of(int64_t width) { return (width + 63) / 64; }
int64_t bf16_stride(int64_t width) { return (width * 2 + 15) / 16 * 16; }

// A thread an element.
__global__ void __launch_bounds__(kThreads)
    round_kernel(MatrixView<const float> x, unsigned char* operand, int64_t stride) {
  const int64_t row = blockIdx.x, column = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= x.cols) return;
  reinterpret_cast<__nv_bfloat16*>(operand + row * stride)[column] =
      __float2bfloat16_rn(x.data[row * x.stride + column]);
}

// A warp a group.
__global__ void __launch_bounds__(kThreads)
    quantise_kernel(MatrixView<const float> x, const int32_t* protected_inputs, int protected_count,
                    unsigned char* operand, float* scales, int* sums) {
  const int lane = int(threadIdx.x) % kWarp, width = int(x.cols), groups = (width + 63) / 64;
  const int group = int(blockIdx.y) * kWarps + int(threadIdx.x) / kWarp;
  if (group >= groups) return;
  const int64_t row = blockIdx.x, at = row * groups + group;
  const QuantisedGroup quantised =
      quantise_group(x.data + row * x.stride, width, group, protected_inputs, protected_count);
  if (lane < 16) reinterpret_cast<int*>(operand)[at * 16 + lane] = quantised.word;
  if (lane == 0) {
    scales[at] = quantised.scale;
    sums[at] = quantised.sum;
  }
}

}  // namespace

GemmRows::GemmRows(int rows, int width)
    : rows_(rows),
      width_(width),
      operand_(size_t(rows_ * std::max(bf16_stride(width_), groups_of(width_) * 64))),
      scales_(size_t(rows_ * groups_of(width_))),
      sums_(size_t(rows_ * groups_of(width_))) {}

GemmInput GemmRows::prepare(cudaStream_t stream, MatrixView<const float> x, const Rows& w) {
  PLEAT_ASSERT(x.rows >= 1 && x.rows <= rows_ && x.cols == w.width && x.cols <= width_, x.rows, " rows of ", x.cols,
               " for width ", w.width, " in room for ", rows_, " of ", width_);
  GemmInput out{.x = x, .bits = w.bits > 8 ? w.bits : 8};
  if (out.bits == 32) return out;
  const auto launch_over = [&](int64_t columns, int a_block, auto kernel, auto... arguments) {
    launch(kernel, {dim3(unsigned(x.rows), unsigned((columns + a_block - 1) / a_block)), kThreads, 0, stream}, x,
           arguments...);
  };
  out.operand = operand_.data();
  if (out.bits == 16) {
    out.stride = bf16_stride(x.cols);
    launch_over(x.cols, kThreads, round_kernel, operand_.data(), out.stride);
    return out;
  }
  out.stride = groups_of(x.cols) * 64;
  out.scales = scales_.data();
  out.sums = sums_.data();
  launch_over(groups_of(x.cols), kWarps, quantise_kernel, w.protected_inputs, w.protected_input_count, operand_.data(),
              scales_.data(), sums_.data());
  return out;
}

}  // namespace pleat::cuda
