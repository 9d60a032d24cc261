#include "kernels/cuda/selection.h"

#include "kernels/cuda/activate.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8;

struct Range {
  const float *z, *low, *high;
  __device__ bool operator()(int64_t at, int neuron) const { return z[at] < low[neuron] || z[at] > high[neuron]; }
};

struct Gate {
  const float *activated, *center, *factor;
  float threshold;
  __device__ bool operator()(int64_t at, int neuron) const {
    return fabsf(activated[at] - center[neuron]) * factor[neuron] > threshold;
  }
};

struct Missed {
  const float *up, *gate;
  Activation activation;
  DeviceLines lines;
  const float* factor;
  float threshold;
  __device__ bool operator()(int64_t at, int neuron) const {
    const float line = lines.gate_slope[neuron] * gate[at] + lines.intercept[neuron];
    const float missed = (activated(activation, gate[at]) - lines.up_slope[neuron]) * up[at] - line;
    return fabsf(missed) * factor[neuron] > threshold;
  }
};

struct Magnitude {
  const float* values;
  float threshold;
  __device__ bool operator()(int64_t at, int) const { return !(fabsf(values[at]) <= threshold); }
};

struct Known {
  const float *up, *gate;
  Activation activation;
  DeviceLines lines;
  float threshold;
  float* residuals;
  __device__ bool operator()(int64_t at, int neuron) const {
    const float u = up[at], g = gate != nullptr ? gate[at] : 0.0f;
    const float value = gate != nullptr ? activated(activation, g) * u : activated(activation, u);
    if (fabsf(value) <= threshold) return false;
    float line = lines.up_slope[neuron] * u + lines.intercept[neuron];
    if (gate != nullptr) line += lines.gate_slope[neuron] * g;
    residuals[at] = value - line;
    return true;
  }
};

struct Chosen {
  const int32_t* slots;
  const uint8_t* chosen;
  int neurons;
  __device__ bool operator()(int64_t at, int neuron) const {
    return chosen[int64_t(slots[at / neurons]) * neurons + neuron] != 0;
  }
};

// A block a bin: 256 neurons at a time, each warp behind those of the warps before it.
template <class Rule>
__global__ void __launch_bounds__(kWarps* kWarp) select_kernel(int rows, int neurons, Rule rule, SelectionView out) {
  __shared__ SharedArray<int, kWarps> found;
  let_next_start();
  wait_for_previous();
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, bin = int(blockIdx.x);
  const int begin = out.bin_offsets[bin], end = out.bin_offsets[bin + 1];
  int place = begin;
  for (int first = begin; first < end; first += kWarps * kWarp) {
    const int neuron = first + int(threadIdx.x);
    uint32_t mask = 0;
    for (int row = 0; row < rows && neuron < end; ++row)
      mask |= uint32_t(rule(int64_t(row) * neurons + neuron, neuron)) << row;
    const unsigned chosen = __ballot_sync(~0u, mask != 0);
    if (lane == 0) found[warp] = __popc(chosen);
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < kWarps; ++w) {
      before += w < warp ? found[w] : 0;
      all += found[w];
    }
    if (mask != 0) out.neuron[place + before + __popc(chosen & ((1u << lane) - 1))] = neuron;
    if (neuron < end) out.rows[neuron] = mask;
    place += all;
    __syncthreads();  // before `found` is written again
  }
  if (threadIdx.x == 0) out.count[bin] = place - begin;
}

template <class Rule>
void select(cudaStream_t stream, int rows, const Rule& rule, const DeviceSelection& selection) {
  PLEAT_ASSERT(rows >= 1 && rows <= kMaxRows, rows, " rows");
  const SelectionView view = selection.view();
  launch_overlapping(select_kernel<Rule>, {unsigned(view.bins), kWarps * kWarp, 0, stream}, rows, selection.neurons(),
                     rule, view);
}

}  // namespace

DeviceSelection::DeviceSelection(std::span<const int32_t> bin_offsets, const Stream& stream)
    : neurons_(bin_offsets.back()),
      bin_offsets_(bin_offsets, stream),
      neuron_(size_t(neurons_)),
      count_(bin_offsets.size() - 1),
      rows_(size_t(neurons_)) {}

SelectionView DeviceSelection::view() const {
  return {bin_offsets_.data(), int(count_.size()), neuron_.data(), rows_.data(), count_.data()};
}

int64_t DeviceSelection::selected(const Stream& stream) const {
  int64_t all = 0;
  for (const int32_t in_bin : count_.to_host(stream)) all += in_bin;
  return all;
}

void select_by_range(cudaStream_t stream, int rows, const float* z, const float* low, const float* high,
                     const DeviceSelection& selection) {
  select(stream, rows, Range{z, low, high}, selection);
}

void select_by_gate(cudaStream_t stream, int rows, const float* activated, const float* center, const float* factor,
                    float threshold, const DeviceSelection& selection) {
  select(stream, rows, Gate{activated, center, factor, threshold}, selection);
}

void select_by_residual(cudaStream_t stream, int rows, const float* up, const float* gate, Activation activation,
                        const DeviceLines& lines, const float* factor, float threshold,
                        const DeviceSelection& selection) {
  select(stream, rows, Missed{up, gate, activation, lines, factor, threshold}, selection);
}

void select_by_magnitude(cudaStream_t stream, int rows, const float* values, float threshold,
                         const DeviceSelection& selection) {
  select(stream, rows, Magnitude{values, threshold}, selection);
}

void select_known(cudaStream_t stream, int rows, const float* up, const float* gate, Activation activation,
                  const DeviceLines& lines, float threshold, const DeviceSelection& selection, float* residuals) {
  select(stream, rows, Known{up, gate, activation, lines, threshold, residuals}, selection);
}

void select_chosen(cudaStream_t stream, int rows, const int32_t* slots, const uint8_t* chosen,
                   const DeviceSelection& selection) {
  select(stream, rows, Chosen{slots, chosen, selection.neurons()}, selection);
}

}  // namespace pleat::cuda
