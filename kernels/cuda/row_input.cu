#include "kernels/cuda/row_input.h"

#include "kernels/cuda/quantise_group.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8;

struct Quantised {
  int *q, *quads;
  float* scales;
  int* sums;
};

// A warp a group.
__global__ void __launch_bounds__(kWarps* kWarp)
    quantise_kernel(const float* x, int width, const int32_t* protected_inputs, int protected_count, Quantised out) {
  let_next_start();
  wait_for_previous();
  const int lane = int(threadIdx.x) % kWarp, row = int(blockIdx.y), groups = (width + 63) / 64;
  const int group = int(blockIdx.x) * kWarps + int(threadIdx.x) / kWarp;
  if (group >= groups) return;
  const QuantisedGroup quantised =
      quantise_group(x + int64_t(row) * width, width, group, protected_inputs, protected_count);
  if (lane < 16) {
    const int place = RowInput::word_place(lane);
    out.q[(int64_t(row) * groups + group) * 16 + place] = quantised.word;
    out.quads[((int64_t(row) * 4 + place / 4) * groups + group) * 4 + place % 4] = quantised.word;
  }
  if (lane == 0) {
    out.scales[row * groups + group] = quantised.scale;
    out.sums[row * groups + group] = quantised.sum;
  }
}

}  // namespace

RowInput RowInput::slice(int first, int count) const {
  PLEAT_ASSERT(first >= 0 && count >= 0 && first + count <= width, "inputs from ", first, " of ", width);
  RowInput out = *this;
  out.x += first;
  out.width = count;
  if (q == nullptr || count == 0) return out;
  PLEAT_ASSERT(first % 64 == 0 && (count % 64 == 0 || first + count == width), "a group is not cut");
  out.q += first / 64 * 16;
  out.quads += first / 64 * 4;
  out.scales += first / 64;
  out.sums += first / 64;
  return out;
}

RowInput RowInput::from_row(int first, int count) const {
  RowInput out = *this;
  out.rows = count;
  out.x += int64_t(first) * x_stride;
  if (q == nullptr) return out;
  out.q = words(first, 0);
  out.quads = quad(first, 0, 0);
  out.scales += first * group_stride;
  out.sums += first * group_stride;
  return out;
}

QuantisedRows::QuantisedRows(int width)
    : width_(width),
      q_(size_t(kMaxRows * 16 * ((width + 63) / 64))),
      quads_(q_.size()),
      sums_(size_t(kMaxRows * ((width + 63) / 64))),
      scales_(size_t(kMaxRows * ((width + 63) / 64))) {}

RowInput QuantisedRows::quantise(cudaStream_t stream, const float* x, int rows, const int32_t* protected_inputs,
                                 int count) {
  PLEAT_ASSERT(rows >= 1 && rows <= kMaxRows, rows, " rows");
  RowInput out = RowInput::of_floats(x, rows, width_);
  out.group_stride = out.groups();
  out.q = q_.data();
  out.quads = quads_.data();
  out.scales = scales_.data();
  out.sums = sums_.data();
  out.protected_inputs = protected_inputs;
  const unsigned blocks = unsigned((out.groups() + kWarps - 1) / kWarps);
  launch_overlapping(quantise_kernel, {dim3(blocks, unsigned(rows)), kWarps * kWarp, 0, stream}, x, width_,
                     protected_inputs, count, Quantised{q_.data(), quads_.data(), scales_.data(), sums_.data()});
  return out;
}

}  // namespace pleat::cuda
