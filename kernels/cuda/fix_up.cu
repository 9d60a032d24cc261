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

// residual[r] of one neuron, in every lane of the warp.
template <int kRows>
__device__ void residuals(const Exact& exact, const RowInput& x, int neuron, float (&residual)[kRows]) {
  const NeuronConstants& of = exact.constants;
  const bool gated = exact.gate.rows > 0;
  float gate[kRows] = {};
#pragma unroll 1
  for (int which = gated ? 0 : 1; which < 2; ++which) {
    row_dots(which == 0 ? exact.gate : exact.up, neuron, x, residual);
#pragma unroll
    for (int r = 0; r < kRows && which == 0; ++r) gate[r] = residual[r];
  }
  const float c = of.lines.up_slope[neuron], f = of.lines.intercept[neuron];
  const float up_bias = of.up_bias != nullptr ? of.up_bias[neuron] : 0.0f;
  const float gate_bias = gated && of.gate_bias != nullptr ? of.gate_bias[neuron] : 0.0f;
  const float e = gated ? of.lines.gate_slope[neuron] : 0.0f;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float u = residual[r] + up_bias;
    if (gated) {
      const float g = gate[r] + gate_bias;
      residual[r] = (activated(exact.activation, g) - c) * u - (e * g + f);
    } else {
      residual[r] = activated(exact.activation, u) - (c * u + f);
    }
  }
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
template <int kBits, int kRows>
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
      const unsigned* const words = reinterpret_cast<const unsigned*>(row + int64_t(group) * 8 * kBits);
      const int codes = code_word<kBits>([&](int i) { return words[i]; }, l);
      const LowBitScales<kBits> scales(row, groups);
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
  switch (down.bits) {
    case 32:
      return add_floats<float>(chunk, down, x, out);
    case 16:
      return add_floats<uint16_t>(chunk, down, x, out);
    case 8:
      return add_low_bit<8>(chunk, down, x, out);
    case 6:
      return add_low_bit<6>(chunk, down, x, out);
    case 5:
      return add_low_bit<5>(chunk, down, x, out);
    case 4:
      return add_low_bit<4>(chunk, down, x, out);
    case 3:
      return add_low_bit<3>(chunk, down, x, out);
    default:
      return add_low_bit<2>(chunk, down, x, out);
  }
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
      float mine[kRows];
      residuals(exact, x, which, mine);
      if (lane != 0) continue;
      neuron[i] = which;
      rows[i] = selection.rows[first + begin + i];
      // As the down row is multiplied with it: rounded where that is in bf16.
      for (int r = 0; r < kRows; ++r)
        residual[i * kRows + r] = exact.down.bits == 16 ? rounded_to_bf16(mine[r]) : mine[r];
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
