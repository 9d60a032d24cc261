// The down rows of a fix-up (fix_up.h).
#include "kernels/cuda/fix_up.h"
#include "kernels/cuda/row_dots.h"
#include "kernels/cuda/row_tile.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kSlab = 128;    // columns of a block
constexpr int kNeurons = 16;  // neighbours that a warp takes together: every eighth 16 of a shard are its own

struct Shard {
  Rows down;
  const uint32_t* rows;                        // of the selection
  const float* residuals;                      // [x rows, neurons]
  int begin, end, neurons, row_count, column;  // column: the slab's first

  __device__ uint32_t rows_of(int neuron) const { return neuron < end ? rows[neuron] : 0u; }
  __device__ float residual(int row, int neuron) const { return residuals[int64_t(row) * neurons + neuron]; }
};

// In bf16 by the tensor core: down's columns are the rows of its left operand. Which 16 neurons are multiplied together
// is fixed, and those that nobody selects are zeros, so that a row's bits depend on its own alone.
//   value [row_count][kSlab] of this warp
template <int kTiles>
__device__ void add_by_tiles(const Shard& of, float* value) {
  const int warp = int(threadIdx.x) / kWarp, t = int(threadIdx.x) % 4, g = int(threadIdx.x) % kWarp / 4;
  float sums[2][4][kTiles][4] = {};  // of columns 64 half + 8 g + 2 pair and the next
  const bool whole = of.column + kSlab <= of.down.width;
  const auto piece = [&](uint32_t rows, int neuron, int column) {
    if (rows == 0) return uint4{};
    const unsigned char* const row = of.down.data + neuron * of.down.stride;
    return whole ? whole_piece(row, column) : weight_piece(row, column, of.down.width);
  };
  constexpr int kPlace[4] = {0, 1, 8, 9};
  int begin = of.begin + warp * kNeurons + 2 * t;
  uint32_t next_rows[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) next_rows[j] = of.rows_of(begin + kPlace[j]);
  for (int first = of.begin + warp * kNeurons; first < of.end; first += kWarps * kNeurons) {
    int neuron[4];
    uint32_t rows[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) neuron[j] = begin + kPlace[j], rows[j] = next_rows[j];
    begin += kWarps * kNeurons;
#pragma unroll
    for (int j = 0; j < 4; ++j) next_rows[j] = of.rows_of(begin + kPlace[j]);
    if (__ballot_sync(~0u, (rows[0] | rows[1] | rows[2] | rows[3]) != 0) == 0) continue;
    uint4 weights[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < 4; ++j) weights[half][j] = piece(rows[j], neuron[j], of.column + 64 * half + 8 * g);
    unsigned residuals[kTiles][2];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int row = 8 * n + g;
      const auto residual = [&](int j) { return (rows[j] >> row & 1) != 0 ? of.residual(row, neuron[j]) : 0.0f; };
      residuals[n][0] = bf16_pair(residual(0), residual(1));
      residuals[n][1] = bf16_pair(residual(2), residual(3));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        const auto word = [&](int j) {
          const uint4& four = weights[half][j];
          return pair == 0 ? four.x : pair == 1 ? four.y : pair == 2 ? four.z : four.w;
        };
        const auto low = [&](int j) { return __byte_perm(word(j), word(j + 1), 0x5410); };
        const auto high = [&](int j) { return __byte_perm(word(j), word(j + 1), 0x7632); };
#pragma unroll
        for (int n = 0; n < kTiles; ++n)
          multiply_add(sums[half][pair][n], {low(0), high(0), low(2), high(2)}, residuals[n]);
      }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int pair = 0; pair < 4; ++pair)
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = 8 * n + 2 * t + i % 2;
          if (row < of.row_count) value[row * kSlab + 64 * half + 8 * g + 2 * pair + i / 2] = sums[half][pair][n][i];
        }
}

// Four of a lane's columns in the slab: `first` and every `step` from there.
struct Columns {
  int first, step;
};

// weights(neuron) gives the four columns' weights as they are read, which widen(neuron, those, float (&)[4]) turns into
// numbers: those of the next neuron are under way.
template <int kRows, class Weights, class Widen>
__device__ void add_columns(const Shard& of, Columns columns, Weights weights, Widen widen, float* value) {
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  float sum[kRows][4] = {};
  for (int first = of.begin + warp * kNeurons; first < of.end; first += kWarps * kNeurons) {
    const uint32_t mine = lane < kNeurons ? of.rows_of(first + lane) : 0u;
    unsigned left = __ballot_sync(~0u, mine != 0);
    if (left == 0) continue;
    int neuron = __ffs(int(left)) - 1;
    auto now = weights(first + neuron);
    while (left != 0) {
      left &= left - 1;
      const int next = left != 0 ? __ffs(int(left)) - 1 : neuron;
      const auto of_next = weights(first + next);
      const uint32_t rows = __shfl_sync(~0u, mine, neuron);
      float weight[4];
      widen(first + neuron, now, weight);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if ((rows >> r & 1) == 0) continue;
        const float residual = of.residual(r, first + neuron);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[r][i] = fmaf(residual, weight[i], sum[r][i]);
      }
      neuron = next;
      now = of_next;
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (r < of.row_count) value[r * kSlab + columns.first + i * columns.step] = sum[r][i];
}

// A protected neuron's row in bf16, or nullptr.
__device__ inline const uint16_t* protected_row(const Rows& down, int neuron) {
  for (int i = 0; i < down.protected_row_count; ++i)
    if (down.protected_rows[i] == neuron) return down.protected_row_weights + int64_t(i) * down.width;
  return nullptr;
}

// Neighbouring lanes have neighbouring words of a group's codes, each its columns l, 16 + l, 32 + l and 48 + l.
template <int kRows>
__device__ void add_low_bit(const Shard& of, float* value) {
  const Rows& down = of.down;
  const int lane = int(threadIdx.x) % kWarp, groups = (down.width + 63) / 64;
  const int group = of.column / 64 + lane / 16, l = lane % 16;
  struct Word {
    int codes;
    float scale, minimum;
  };
  const auto weights = [&](int neuron) {
    if (group >= groups) return Word{};
    const unsigned char* const row = down.data + neuron * down.stride;
    const unsigned* const words = reinterpret_cast<const unsigned*>(row + int64_t(group) * 8 * down.bits);
    const LowBitScales scales(down, row, down.bits, groups);
    const int codes = code_word([&](int i) { return words[i]; }, down.bits, l);
    return Word{down.planes ? scales.sums(group).look_up(codes) : codes, scales.scale(group), scales.minimum(group)};
  };
  const auto widen = [&](int neuron, const Word& word, float(&weight)[4]) {
    const uint16_t* const kept = protected_row(down, neuron);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      weight[i] = fmaf(word.scale, float(int8_t(word.codes >> 8 * i)), word.minimum);
      const int column = group * 64 + l + 16 * i;
      if (kept != nullptr) weight[i] = column < down.width ? from_bf16(kept[column]) : 0.0f;
    }
  };
  add_columns<kRows>(of, {lane / 16 * 64 + l, 16}, weights, widen, value);
}

template <int kRows>
__device__ void add_f32(const Shard& of, float* value) {
  const int first = int(threadIdx.x) % kWarp * 4;
  const auto weights = [&](int neuron) {
    const float* const row = reinterpret_cast<const float*>(of.down.data + neuron * of.down.stride);
    const int column = of.column + first;
    const auto at = [&](int i) { return column + i < of.down.width ? row[column + i] : 0.0f; };
    return float4{at(0), at(1), at(2), at(3)};
  };
  const auto widen = [](int, const float4& four, float(&weight)[4]) {
    weight[0] = four.x, weight[1] = four.y, weight[2] = four.z, weight[3] = four.w;
  };
  add_columns<kRows>(of, {first, 1}, weights, widen, value);
}

// A block kSlab columns of a shard.
template <int kRows>
__global__ void __launch_bounds__(kThreads, kRows > 4 ? 2 : 3)
    exact_rows_kernel(int rows, Rows down, Shards shards, const uint32_t* of_selection, const float* residuals,
                      float* sums) {
  let_next_start();
  wait_for_previous();
  const int shard = int(blockIdx.y), n = rows * kSlab;
  const Shard of{
      down, of_selection,           residuals, shards.offsets[shard], shards.offsets[shard + 1], shards.neurons,
      rows, int(blockIdx.x) * kSlab};
  wait_for_previous();
  float* const values = dynamic_shared<float>();  // [kWarps][rows][kSlab]
  float* const mine = values + int(threadIdx.x) / kWarp * n;
  if (down.bits == 16)
    add_by_tiles<(kRows + 7) / 8>(of, mine);
  else if (down.bits == 32)
    add_f32<kRows>(of, mine);
  else
    add_low_bit<kRows>(of, mine);
  __syncthreads();
  for (int i = int(threadIdx.x); i < n; i += kThreads) {
    const int row = i / kSlab, column = of.column + i % kSlab;
    if (column < down.width) sums[(int64_t(shard) * rows + row) * down.width + column] = sum_of_eight(values + i, n);
  }
}

}  // namespace

void add_exact_rows(cudaStream_t stream, int rows, const Rows& down, const Shards& shards,
                    const DeviceSelection& selection, const float* residuals, float* sums) {
  PLEAT_ASSERT(rows >= 1 && rows <= kMaxRows, rows, " rows");
  PLEAT_ASSERT(down.rows == selection.neurons() && shards.neurons == selection.neurons(), down.rows, " rows of ",
               selection.neurons(), " neurons");
  if (shards.count == 0) return;
  const dim3 grid(unsigned((down.width + kSlab - 1) / kSlab), unsigned(shards.count));
  const size_t shared = size_t(kWarps * rows * kSlab) * sizeof(float);
  with_row_capacity(rows, [&](auto capacity) {
    launch_overlapping(exact_rows_kernel<capacity()>, {grid, kThreads, shared, stream}, rows, down, shards,
                       selection.view().rows, residuals, sums);
  });
}

}  // namespace pleat::cuda
