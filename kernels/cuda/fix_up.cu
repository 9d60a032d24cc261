#include "kernels/cuda/fix_up.h"

#include "kernels/cuda/activate.h"
#include "kernels/cuda/row_dots.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kTogether = 32;  // neurons between two barriers

struct Exact {
  Rows gate, up, down;  // gate.rows == 0: a plain FFN
  NeuronConstants constants;
  Activation activation;
};

// The residual of one neuron in the row of this lane's number, below kRows: an activation is long, and a lane has one.
template <int kRows>
__device__ float residual_of(const Exact& exact, const RowInput& x, int neuron) {
  const NeuronConstants& of = exact.constants;
  const bool gated = exact.gate.rows > 0;
  float g = 0, u = 0;
#pragma unroll 1
  for (int which = gated ? 0 : 1; which < 2; ++which) {
    float dots[kRows];
    row_dots(which == 0 ? exact.gate : exact.up, neuron, x, dots);
    g = u;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (int(threadIdx.x) % kWarp == r) u = dots[r];
  }
  const float c = of.lines.up_slope[neuron], f = of.lines.intercept[neuron];
  if (of.up_bias != nullptr) u += of.up_bias[neuron];
  if (gated && of.gate_bias != nullptr) g += of.gate_bias[neuron];
  const float a = activated(exact.activation, gated ? g : u);
  return gated ? (a - c) * u - (of.lines.gate_slope[neuron] * g + f) : a - (c * u + f);
}

// The neurons that a block has residuals of, in shared memory.
template <int kRows>
struct Chunk {
  int count;
  const int* neuron;
  const uint32_t* rows;
  const float* residual;  // [kTogether][kRows]
};

// Four of a thread's columns: `first` and every `step` from there, as far as the row goes.
struct Columns {
  int first, step;
};

// out[row, columns] += the chunk's residuals times weight(neuron), which gives the four columns' weights.
template <int kRows, class Weights>
__device__ void add_columns(const Chunk<kRows>& chunk, Columns columns, const RowInput& x, Weights weights,
                            float* out) {
  float sum[kRows][4];
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = columns.first + i * columns.step;
      sum[r][i] = r < x.rows && column < x.width ? out[int64_t(r) * x.width + column] : 0.0f;
    }
  for (int n = 0; n < chunk.count; ++n) {
    float weight[4];
    weights(chunk.neuron[n], weight);
    const float* const residual = chunk.residual + n * kRows;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if ((chunk.rows[n] >> r & 1) == 0) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[r][i] = fmaf(residual[r], weight[i], sum[r][i]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = columns.first + i * columns.step;
      if (r < x.rows && column < x.width) out[int64_t(r) * x.width + column] = sum[r][i];
    }
}

// A protected neuron's row in bf16, or nullptr.
__device__ inline const uint16_t* protected_row(const Rows& down, int neuron) {
  for (int i = 0; i < down.protected_row_count; ++i)
    if (down.protected_rows[i] == neuron) return down.protected_row_weights + int64_t(i) * down.width;
  return nullptr;
}

// Neighbouring threads have neighbouring words of a group's codes, each its columns l, 16 + l, 32 + l and 48 + l.
template <int kRows>
__device__ void add_low_bit(const Chunk<kRows>& chunk, const Rows& down, const RowInput& x, float* out) {
  const int groups = x.groups();
  for (int unit = int(threadIdx.x); unit < groups * 16; unit += kThreads) {
    const int group = unit / 16, l = unit % 16;
    const auto weights = [&](int neuron, float(&weight)[4]) {
      const unsigned char* const row = down.data + neuron * down.stride;
      if (const uint16_t* const kept = protected_row(down, neuron)) {
        for (int i = 0; i < 4; ++i) {
          const int column = group * 64 + l + 16 * i;
          weight[i] = column < down.width ? from_bf16(kept[column]) : 0.0f;
        }
        return;
      }
      const unsigned* const words = reinterpret_cast<const unsigned*>(row + int64_t(group) * 8 * down.bits);
      const LowBitScales scales(down, row, down.bits, groups);
      int codes = code_word([&](int i) { return words[i]; }, down.bits, l);
      if (down.planes) codes = scales.sums(group).look_up(codes);
      const float scale = scales.scale(group), minimum = scales.minimum(group);
      for (int i = 0; i < 4; ++i) weight[i] = fmaf(scale, float(int8_t(codes >> 8 * i)), minimum);
    };
    add_columns(chunk, {group * 64 + l, 16}, x, weights, out);
  }
}

// Neighbouring threads have neighbouring columns, four each.
template <class Weight, int kRows>
__device__ void add_floats(const Chunk<kRows>& chunk, const Rows& down, const RowInput& x, float* out) {
  for (int column = int(threadIdx.x) * 4; column < x.width; column += kThreads * 4) {
    const auto weights = [&](int neuron, float(&weight)[4]) {
      const Weight* const row = reinterpret_cast<const Weight*>(down.data + neuron * down.stride) + column;
      for (int i = 0; i < 4; ++i) {
        if (column + i >= x.width)
          weight[i] = 0;
        else if constexpr (sizeof(Weight) == 2)
          weight[i] = from_bf16(row[i]);
        else
          weight[i] = row[i];
      }
    };
    add_columns(chunk, {column, 1}, x, weights, out);
  }
}

template <int kRows>
__device__ void add_down(const Chunk<kRows>& chunk, const Rows& down, const RowInput& x, float* out) {
  if (down.bits == 32) return add_floats<float>(chunk, down, x, out);
  if (down.bits == 16) return add_floats<uint16_t>(chunk, down, x, out);
  add_low_bit(chunk, down, x, out);
}

// A block a bin. Warps find the residuals of kTogether neurons, then threads add up those neurons' down rows, each its
// columns of them.
template <int kRows>
__global__ void __launch_bounds__(kThreads)
    fix_up_kernel(RowInput x, Exact exact, SelectionView selection, float* parts) {
  __shared__ SharedArray<float, kTogether * kRows> residual;
  __shared__ SharedArray<int, kTogether> neuron;
  __shared__ SharedArray<uint32_t, kTogether> rows;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, bin = int(blockIdx.x);
  const int first = selection.bin_offsets[bin], count = selection.count[bin];
  float* const out = parts + int64_t(bin) * x.rows * x.width;
  for (int i = int(threadIdx.x); i < x.rows * x.width; i += kThreads) out[i] = 0;
  __syncthreads();
  for (int begin = 0; begin < count; begin += kTogether) {
    const int here = count - begin < kTogether ? count - begin : kTogether;
    for (int i = warp; i < here; i += kWarps) {
      const int which = selection.neuron[first + begin + i];
      const float mine = residual_of<kRows>(exact, x, which);
      // As the down row is multiplied with it: rounded where that is in bf16.
      if (lane < kRows) residual[i * kRows + lane] = exact.down.bits == 16 ? rounded_to_bf16(mine) : mine;
      if (lane != 0) continue;
      neuron[i] = which;
      rows[i] = selection.rows[first + begin + i];
    }
    __syncthreads();
    add_down(Chunk<kRows>{here, neuron.data(), rows.data(), residual.data()}, exact.down, x, out);
    __syncthreads();
  }
}

void fix_up(cudaStream_t stream, const RowInput& x, const Exact& exact, const DeviceSelection& selection,
            float* parts) {
  PLEAT_ASSERT(x.rows >= 1 && x.rows <= kMaxRows, x.rows, " rows");
  PLEAT_ASSERT(exact.up.width == x.width && exact.down.width == x.width, exact.up.width, " and ", exact.down.width,
               " for width ", x.width);
  PLEAT_ASSERT(exact.up.rows == selection.neurons() && exact.down.rows == selection.neurons(), exact.up.rows, " and ",
               exact.down.rows, " of ", selection.neurons(), " neurons");
  const SelectionView view = selection.view();
  with_row_capacity(x.rows, [&](auto capacity) {
    launch(fix_up_kernel<capacity()>, {unsigned(view.bins), kThreads, 0, stream}, x, exact, view, parts);
  });
}

}  // namespace

void fix_up(cudaStream_t stream, const RowInput& x, const Rows& up, const Rows& down, const NeuronConstants& constants,
            Activation activation, const DeviceSelection& selection, float* parts) {
  fix_up(stream, x, Exact{{}, up, down, constants, activation}, selection, parts);
}

void fix_up_gated(cudaStream_t stream, const RowInput& x, const Rows& gate, const Rows& up, const Rows& down,
                  const NeuronConstants& constants, Activation activation, const DeviceSelection& selection,
                  float* parts) {
  PLEAT_ASSERT(gate.width == x.width && gate.rows == up.rows, "gate [", gate.rows, ", ", gate.width, "]");
  fix_up(stream, x, Exact{gate, up, down, constants, activation}, selection, parts);
}

}  // namespace pleat::cuda
