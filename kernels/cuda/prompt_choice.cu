#include "kernels/cuda/prompt_choice.h"

#include <cmath>

#include "kernels/cuda/sums.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

__global__ void __launch_bounds__(kThreads)
    lines_kernel(int64_t count, int neurons, const float* up, const float* gate, DeviceLines lines, float* out) {
  const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= count) return;
  const int n = int(at % neurons);
  const float line = lines.up_slope[n] * up[at] + lines.intercept[n];
  out[at] = gate != nullptr ? line + lines.gate_slope[n] * gate[at] : line;
}

__global__ void __launch_bounds__(kThreads)
    missed_kernel(int64_t count, int neurons, const float* act, const float* factor, float* line) {
  const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (at < count) line[at] = (act[at] - line[at]) * factor[at % neurons];
}

// A warp a shard of a row.
__global__ void __launch_bounds__(kThreads) squares_kernel(int rows, Shards shards, const float* values, float* out) {
  const int lane = int(threadIdx.x) % kWarp, row = int(blockIdx.x) * kWarps + int(threadIdx.x) / kWarp;
  const int shard = int(blockIdx.y);
  if (row >= rows) return;
  const float* const of_row = values + int64_t(row) * shards.neurons;
  float sum = 0;
  for (int n = shards.offsets[shard] + lane; n < shards.offsets[shard + 1]; n += kWarp)
    sum = fmaf(of_row[n], of_row[n], sum);
  sum = warp_sum(sum);
  if (lane == 0) out[int64_t(shard) * rows + row] = sum;
}

__device__ int part_of(int n, double share) { return max(0, min(n, int(floor(share * n + 0.5)))); }

// Calls use(i, whether i is among the `count` largest of values [n], the lower index first among equals), by all
// threads. copy: [n] of shared memory.
template <class Use>
__device__ void for_largest(const float* values, int n, int count, bool magnitudes, float* copy, Use use) {
  for (int i = int(threadIdx.x); i < n; i += kThreads) copy[i] = magnitudes ? fabsf(values[i]) : values[i];
  __syncthreads();
  for (int i = int(threadIdx.x); i < n; i += kThreads) {
    const float mine = copy[i];
    int before = 0;
    for (int j = 0; j < n; ++j) before += copy[j] > mine || (copy[j] == mine && j < i);
    use(i, before < count);
  }
}

// A block a row and shard.
__global__ void __launch_bounds__(kThreads)
    cores_kernel(Shards shards, double share, const float* values, float* marks) {
  const int begin = shards.offsets[blockIdx.y], n = shards.offsets[blockIdx.y + 1] - begin;
  const int64_t at = int64_t(blockIdx.x) * shards.neurons + begin;
  for_largest(values + at, n, part_of(n, share), true, dynamic_shared<float>(),
              [&](int i, bool among) { marks[at + i] = among ? 1.0f : 0.0f; });
}

__global__ void __launch_bounds__(kThreads)
    choose_kernel(PromptRows rows, Shards shards, double share, PromptScores of) {
  const int row = int(blockIdx.x);
  if (rows.ends[row] == 0) return;
  const int begin = shards.offsets[blockIdx.y], n = shards.offsets[blockIdx.y + 1] - begin;
  const int64_t at = int64_t(rows.slots[row]) * shards.neurons + begin;
  for_largest(of.scores + at, n, part_of(n, share), false, dynamic_shared<float>(),
              [&](int i, bool among) { of.chosen[at + i] = among; });
}

// A thread a neuron.
__global__ void __launch_bounds__(kThreads)
    scores_kernel(PromptRows rows, int neurons, const float* values, const float* squared_norms, PromptScores to) {
  const int n = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (n >= neurons) return;
  for (int row = 0; row < rows.count; ++row) {
    float& score = to.scores[int64_t(rows.slots[row]) * neurons + n];
    if (rows.positions[row] == 0) score = 0;
    float value = values[int64_t(row) * neurons + n];
    if (squared_norms != nullptr) {
      const float norm = sqrtf(squared_norms[row]);
      value = norm > 0 ? value / norm : 0.0f;
      value *= value;
    }
    score += value;
  }
}

unsigned blocks_of(int64_t threads) { return unsigned((threads + kThreads - 1) / kThreads); }

}  // namespace

void lines_of(cudaStream_t stream, int rows, int neurons, const float* up, const float* gate, const DeviceLines& lines,
              float* out) {
  const int64_t count = int64_t(rows) * neurons;
  if (count > 0) launch(lines_kernel, {blocks_of(count), kThreads, 0, stream}, count, neurons, up, gate, lines, out);
}

void missed_by_lines(cudaStream_t stream, int rows, int neurons, const float* act, const float* factor, float* line) {
  const int64_t count = int64_t(rows) * neurons;
  if (count > 0) launch(missed_kernel, {blocks_of(count), kThreads, 0, stream}, count, neurons, act, factor, line);
}

void shard_squares(cudaStream_t stream, int rows, const Shards& shards, const float* values, float* out) {
  if (shards.count == 0) return;
  launch(squares_kernel, {dim3(unsigned((rows + kWarps - 1) / kWarps), unsigned(shards.count)), kThreads, 0, stream},
         rows, shards, values, out);
}

void mark_cores(cudaStream_t stream, int rows, const Shards& shards, double share, const float* values, float* marks) {
  if (shards.neurons == 0) return;
  launch(cores_kernel,
         {dim3(unsigned(rows), unsigned(shards.count)), kThreads, size_t(shards.largest) * sizeof(float), stream},
         shards, share, values, marks);
}

void add_scores(cudaStream_t stream, const PromptRows& rows, int neurons, const float* values,
                const float* squared_norms, const PromptScores& to) {
  if (neurons > 0)
    launch(scores_kernel, {blocks_of(neurons), kThreads, 0, stream}, rows, neurons, values, squared_norms, to);
}

void choose(cudaStream_t stream, const PromptRows& rows, const Shards& shards, double share, const PromptScores& of) {
  if (shards.neurons == 0) return;
  launch(choose_kernel,
         {dim3(unsigned(rows.count), unsigned(shards.count)), kThreads, size_t(shards.largest) * sizeof(float), stream},
         rows, shards, share, of);
}

}  // namespace pleat::cuda
