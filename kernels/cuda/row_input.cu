#include "kernels/cuda/row_input.h"

#include "kernels/cuda/sums.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8;

struct Quantised {
  int* q;
  float* scales;
  int* sums;
};

__device__ bool is_in(const int32_t* list, int count, int value) {
  for (int i = 0; i < count; ++i)
    if (list[i] == value) return true;
  return false;
}

// A warp a group; lane l holds its inputs l and 32 + l.
__global__ void __launch_bounds__(kWarps* kWarp)
    quantise_kernel(const float* x, int width, const int32_t* protected_inputs, int protected_count, Quantised out) {
  const int lane = int(threadIdx.x) % kWarp, row = int(blockIdx.y), groups = (width + 63) / 64;
  const int group = int(blockIdx.x) * kWarps + int(threadIdx.x) / kWarp;
  if (group >= groups) return;
  float value[2];
  for (int half = 0; half < 2; ++half) {
    const int input = group * 64 + half * kWarp + lane;
    const bool counts = input < width && !is_in(protected_inputs, protected_count, input);
    value[half] = counts ? x[int64_t(row) * width + input] : 0.0f;
  }
  const float step = warp_max(fmaxf(fabsf(value[0]), fabsf(value[1]))) / 127.0f;
  int q[2];
  // A subnormal or infinite step makes any quotient: it stays in range, as on the CPU.
  for (int half = 0; half < 2; ++half)
    q[half] = step > 0 ? int(rintf(fminf(fmaxf(value[half] / step, -127.0f), 127.0f))) : 0;
  const int sum = warp_sum(q[0] + q[1]);
  // Lane l has bytes 0 and 2 of word l, lane 16 + l bytes 1 and 3.
  const int halves = (q[0] & 0xff) | (q[1] & 0xff) << 16;
  const int word = halves | __shfl_down_sync(~0u, halves, 16) << 8;
  if (lane < 16) out.q[(int64_t(row) * 16 + lane) * groups + group] = word;
  if (lane == 0) {
    out.scales[row * groups + group] = step;
    out.sums[row * groups + group] = sum;
  }
}

}  // namespace

RowInput RowInput::slice(int first, int count) const {
  PLEAT_ASSERT(first >= 0 && count >= 0 && first + count <= width, "inputs from ", first, " of ", width);
  RowInput out = *this;
  out.x += first;
  out.width = count;
  if (q == nullptr) return out;
  PLEAT_ASSERT(first % 64 == 0 && (count % 64 == 0 || first + count == width), "a group is not cut");
  out.q += first / 64;
  out.scales += first / 64;
  out.sums += first / 64;
  return out;
}

QuantisedRows::QuantisedRows(int width)
    : width_(width),
      q_(size_t(kMaxRows * 16 * ((width + 63) / 64))),
      sums_(size_t(kMaxRows * ((width + 63) / 64))),
      scales_(size_t(kMaxRows * ((width + 63) / 64))) {}

RowInput QuantisedRows::quantise(cudaStream_t stream, const float* x, int rows, const int32_t* protected_inputs,
                                 int count) {
  PLEAT_ASSERT(rows >= 1 && rows <= kMaxRows, rows, " rows");
  RowInput out = RowInput::of_floats(x, rows, width_);
  out.group_stride = out.groups();
  out.q = q_.data();
  out.scales = scales_.data();
  out.sums = sums_.data();
  const unsigned blocks = unsigned((out.groups() + kWarps - 1) / kWarps);
  launch(quantise_kernel, {dim3(blocks, unsigned(rows)), kWarps * kWarp, 0, stream}, x, width_, protected_inputs, count,
         Quantised{q_.data(), scales_.data(), sums_.data()});
  return out;
}

}  // namespace pleat::cuda
