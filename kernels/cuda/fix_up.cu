#include "kernels/cuda/fix_up.h"

#include "kernels/cuda/activate.h"
#include "kernels/cuda/row_dots.h"
#include "kernels/cuda/row_tile.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;

// The residual of one neuron from its products.
__device__ inline float residual_of(const ExactFfn& exact, int neuron, float up, float gate) {
  const NeuronConstants& of = exact.constants;
  const bool gated = exact.gate.rows > 0;
  const float c = of.lines.up_slope[neuron], f = of.lines.intercept[neuron];
  if (of.up_bias != nullptr) up += of.up_bias[neuron];
  if (gated && of.gate_bias != nullptr) gate += of.gate_bias[neuron];
  const float a = activated(exact.activation, gated ? gate : up);
  return gated ? (a - c) * up - (of.lines.gate_slope[neuron] * gate + f) : a - (c * up + f);
}

// What a block writes.
struct Residuals {
  const uint32_t* rows;  // of the selection
  float* at;             // [x.rows, neurons]
  int neurons;
  __device__ void put(int row, int neuron, float value) const {
    at[int64_t(row) * neurons + neuron] = (rows[neuron] >> row & 1) != 0 ? value : 0.0f;
  }
};

// Of `count` neurons of the list, 16 at a time; warps share out their inputs.   value [2][kWarps][x.rows][16]
template <int kTiles>
__device__ void residuals_by_tiles(const RowInput& x, const ExactFfn& exact, const int32_t* list, int count,
                                   const Residuals& out, float* value) {
  const int warp = int(threadIdx.x) / kWarp, n = x.rows * kTileOutputs;
  const bool gated = exact.gate.rows > 0;
  const TileInput<kTiles> in(x);
  for (int first = 0; first < count; first += kTileOutputs) {
    const auto neuron = [&](int i) { return list[min(first + i, count - 1)]; };
    const int mine[2] = {neuron(int(threadIdx.x) % kWarp / 4), neuron(int(threadIdx.x) % kWarp / 4 + 8)};
#pragma unroll 1
    for (int which = 0; which < (gated ? 2 : 1); ++which) {
      const Rows& w = which == 0 ? exact.up : exact.gate;
      const auto row = [&](int index) { return w.data + index * w.stride; };
      TileSums<kTiles> sums = {};
      add_bf16_tile(LaneRows{{row(mine[0]), row(mine[1])}}, in, {0, x.width, warp, kWarps}, sums);
      keep_tile(sums, x.rows, value + (which * kWarps + warp) * n);
    }
    __syncthreads();
    for (int i = int(threadIdx.x); i < n; i += kThreads) {
      if (first + i % kTileOutputs >= count) continue;
      const int index = neuron(i % kTileOutputs);
      const float up = sum_of_eight(value + i, n), gate = gated ? sum_of_eight(value + kWarps * n + i, n) : 0.0f;
      out.put(i / kTileOutputs, index, residual_of(exact, index, up, gate));
    }
    __syncthreads();
  }
}

// A warp a neuron; lane r has row r, as an activation is long.
template <int kRows>
__device__ void residuals_by_warps(const RowInput& x, const ExactFfn& exact, const int32_t* list, int count,
                                   const Residuals& out) {
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const bool gated = exact.gate.rows > 0;
  for (int i = warp; i < count; i += kWarps) {
    const int neuron = list[i];
    float products[2] = {};
#pragma unroll 1
    for (int which = 0; which < (gated ? 2 : 1); ++which) {
      float dots[kRows];
      row_dots(which == 0 ? exact.up : exact.gate, neuron, x, dots);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (lane == r) (which == 0 ? products[0] : products[1]) = dots[r];
    }
    if (lane < x.rows) out.put(lane, neuron, residual_of(exact, neuron, products[0], products[1]));
  }
}

// A block a bin.
template <int kRows>
__global__ void __launch_bounds__(kThreads, kRows > 4 ? 2 : 3)
    residuals_kernel(RowInput x, ExactFfn exact, SelectionView selection, float* residuals) {
  let_next_start();
  wait_for_previous();
  const int first = selection.bin_offsets[blockIdx.x], count = selection.count[blockIdx.x];
  const int32_t* const list = selection.neuron + first;
  const Residuals out{selection.rows, residuals, exact.up.rows};
  if (exact.up.bits == 16)
    residuals_by_tiles<(kRows + 7) / 8>(x, exact, list, count, out, dynamic_shared<float>());
  else
    residuals_by_warps<kRows>(x, exact, list, count, out);
}

}  // namespace

void exact_residuals(cudaStream_t stream, const RowInput& x, const ExactFfn& exact, const DeviceSelection& selection,
                     float* residuals) {
  PLEAT_ASSERT(x.rows >= 1 && x.rows <= kMaxRows, x.rows, " rows");
  PLEAT_ASSERT(exact.up.width == x.width && exact.up.rows == selection.neurons(), "up [", exact.up.rows, ", ",
               exact.up.width, "] of ", selection.neurons(), " neurons, width ", x.width);
  PLEAT_ASSERT(exact.gate.rows == 0 || (exact.gate.rows == exact.up.rows && exact.gate.width == x.width), "gate [",
               exact.gate.rows, ", ", exact.gate.width, "]");
  const SelectionView view = selection.view();
  const size_t matrices = exact.gate.rows > 0 ? 2 : 1;
  const size_t shared = exact.up.bits == 16 ? matrices * kWarps * size_t(x.rows) * kTileOutputs * sizeof(float) : 0;
  with_row_capacity(x.rows, [&](auto capacity) {
    launch_overlapping(residuals_kernel<capacity()>, {unsigned(view.bins), kThreads, shared, stream}, x, exact, view,
                       residuals);
  });
}

}  // namespace pleat::cuda
