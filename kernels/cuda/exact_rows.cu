// Selected rows added up (fix_up.h).
#include "kernels/cuda/fix_up.h"
#include "kernels/cuda/low_bit_codes.h"
#include "kernels/cuda/row_dots.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kSlab = 128;       // columns of a block, four a lane
constexpr int kNeighbours = 16;  // neurons that a warp looks at together: every eighth 16 of a shard are its own
constexpr int kListed = 64;      // of its neurons at a time, in shared memory
constexpr int kTogether = 4;     // rows under way

template <int kMatrices>
struct Matrices {
  Rows at[kMatrices];
};
static_assert(kMaxAdded == 2);

struct Shard {
  const uint32_t* rows;                        // of the selection
  const float* residuals;                      // [x rows, neurons]
  int begin, end, neurons, row_count, column;  // column: the slab's first
};

// A warp's selected neurons of kListed, ascending.
template <int kRows>
struct Listed {
  int neuron[kListed];
  uint32_t rows[kListed];
  float residual[kRows][kListed];

  // Those of the kListed / kNeighbours next neighbourhoods from `first` on; returns how many.
  __device__ int fill(const Shard& of, int first) {
    const int lane = int(threadIdx.x) % kWarp;
    constexpr int kLoads = kListed / kWarp;
    uint32_t mask[kLoads];
    int mine[kLoads], count = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int at = i * kWarp + lane;
      mine[i] = first + at / kNeighbours * kWarps * kNeighbours + at % kNeighbours;
      mask[i] = mine[i] < of.end ? of.rows[mine[i]] : 0u;
    }
    __syncwarp();  // what was listed before has been read
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const unsigned chosen = __ballot_sync(~0u, mask[i] != 0);
      if (mask[i] != 0) {
        const int place = count + __popc(chosen & ((1u << lane) - 1));
        neuron[place] = mine[i];
        rows[place] = mask[i];
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          if ((mask[i] >> r & 1) != 0) residual[r][place] = of.residuals[int64_t(r) * of.neurons + mine[i]];
      }
      count += __popc(chosen);
    }
    __syncwarp();
    return count;
  }
};

// Four of a lane's columns in the slab: `first` and every `step` from there.
struct Columns {
  int first, step;
};

// A warp's memory: what it has listed, and in its place at the end what it has added up.
template <int kRows>
__host__ __device__ constexpr int warp_bytes(int rows) {
  const int listed = int(sizeof(Listed<kRows>)), sums = rows * kSlab * int(sizeof(float));
  return listed > sums ? listed : sums;
}

// value [row_count][kSlab] of this warp, where `listed` may be, = its neurons' rows. Format::read(neuron) gives four
// columns' weights as they stand, Format::widen(neuron, those, float (&)[4]) turns them into numbers. A row adds up its
// own neurons alone, so that its bits depend on them alone.
template <int kRows, class Format>
__device__ void add_rows(const Shard& of, const Format& format, Columns columns, Listed<kRows>& listed, float* value) {
  const int warp = int(threadIdx.x) / kWarp;
  constexpr int kStep = kListed / kNeighbours * kWarps * kNeighbours;
  float sum[kRows][4] = {};
  for (int first = of.begin + warp * kNeighbours; first < of.end; first += kStep) {
    const int count = listed.fill(of, first);
    for (int begin = 0; begin < count; begin += kTogether) {
      typename Format::Read read[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) read[i] = format.read(listed.neuron[min(begin + i, count - 1)]);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (begin + i >= count) break;
        const uint32_t rows = listed.rows[begin + i];
        float weight[4];
        format.widen(listed.neuron[begin + i], read[i], weight);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          if ((rows >> r & 1) == 0) continue;
          const float residual = format.rounded(listed.residual[r][begin + i]);
#pragma unroll
          for (int j = 0; j < 4; ++j) sum[r][j] = fmaf(residual, weight[j], sum[r][j]);
        }
      }
    }
  }
  __syncwarp();  // what was listed has been read
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (r < of.row_count) value[r * kSlab + columns.first + j * columns.step] = sum[r][j];
}

// Neighbouring lanes have four neighbouring columns each.
struct Bf16Columns {
  const Rows& down;
  int column;  // of this lane
  using Read = uint2;
  __device__ uint2 read(int neuron) const {
    const uint16_t* const row = reinterpret_cast<const uint16_t*>(down.data + neuron * down.stride) + column;
    if (column + 4 <= down.width) return *reinterpret_cast<const uint2*>(row);
    const auto at = [&](int i) { return column + i < down.width ? unsigned(row[i]) : 0u; };
    return {at(0) | at(1) << 16, at(2) | at(3) << 16};
  }
  __device__ void widen(int, const uint2& four, float (&weight)[4]) const {
    weight[0] = from_bf16(uint16_t(four.x & 0xffffu)), weight[1] = from_bf16(uint16_t(four.x >> 16));
    weight[2] = from_bf16(uint16_t(four.y & 0xffffu)), weight[3] = from_bf16(uint16_t(four.y >> 16));
  }
  __device__ static float rounded(float residual) { return rounded_to_bf16(residual); }
};

struct F32Columns {
  const Rows& down;
  int column;
  using Read = float4;
  __device__ float4 read(int neuron) const {
    const float* const row = reinterpret_cast<const float*>(down.data + neuron * down.stride) + column;
    const auto at = [&](int i) { return column + i < down.width ? row[i] : 0.0f; };
    return {at(0), at(1), at(2), at(3)};
  }
  __device__ void widen(int, const float4& four, float (&weight)[4]) const {
    weight[0] = four.x, weight[1] = four.y, weight[2] = four.z, weight[3] = four.w;
  }
  __device__ static float rounded(float residual) { return residual; }
};

// Neighbouring lanes have neighbouring words of a group's codes, each its columns l, 16 + l, 32 + l and 48 + l.
struct LowBitColumns {
  const Rows& down;
  int group, l;
  struct Read {
    int codes;
    float scale, minimum;
  };
  __device__ int groups() const { return (down.width + 63) / 64; }
  __device__ Read read(int neuron) const {
    if (group >= groups()) return {};
    const unsigned char* const row = down.data + neuron * down.stride;
    const unsigned* const words = reinterpret_cast<const unsigned*>(row + int64_t(group) * 8 * down.bits);
    const LowBitScales scales(down, row, down.bits, groups());
    const int codes = code_word([&](int i) { return words[i]; }, down.bits, l);
    return {down.planes ? scales.sums(group).look_up(codes) : codes, scales.scale(group), scales.minimum(group)};
  }
  __device__ void widen(int neuron, const Read& of, float (&weight)[4]) const {
    const uint16_t* const kept = protected_row(neuron);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      weight[i] = fmaf(of.scale, float(int8_t(of.codes >> 8 * i)), of.minimum);
      const int column = group * 64 + l + 16 * i;
      if (kept != nullptr) weight[i] = column < down.width ? from_bf16(kept[column]) : 0.0f;
    }
  }
  // A protected neuron's row in bf16, or nullptr.
  __device__ const uint16_t* protected_row(int neuron) const {
    for (int i = 0; i < down.protected_row_count; ++i)
      if (down.protected_rows[i] == neuron) return down.protected_row_weights + int64_t(i) * down.width;
    return nullptr;
  }
  __device__ static float rounded(float residual) { return residual; }
};

// A block kSlab columns of a matrix's shard. Of a single matrix what is the same everywhere stands in instructions.
template <int kRows, int kMatrices>
__global__ void __launch_bounds__(kThreads, kRows > 4 ? 2 : 4)
    exact_rows_kernel(int rows, Matrices<kMatrices> matrices, Shards shards, const uint32_t* of_selection,
                      const float* residuals, float* sums) {
  let_next_start();
  const Rows& down = matrices.at[kMatrices == 1 ? 0 : blockIdx.z];
  const int shard = int(blockIdx.y), n = rows * kSlab, warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const Shard of{of_selection,   residuals, shards.offsets[shard],  shards.offsets[shard + 1],
                 shards.neurons, rows,      int(blockIdx.x) * kSlab};
  wait_for_previous();
  unsigned char* const memory = dynamic_shared<unsigned char>();  // [kWarps]
  float* const mine = reinterpret_cast<float*>(memory + warp * warp_bytes<kRows>(rows));
  Listed<kRows>& listed = *reinterpret_cast<Listed<kRows>*>(mine);
  if (down.bits == 16)
    add_rows(of, Bf16Columns{down, of.column + lane * 4}, {lane * 4, 1}, listed, mine);
  else if (down.bits == 32)
    add_rows(of, F32Columns{down, of.column + lane * 4}, {lane * 4, 1}, listed, mine);
  else
    add_rows(of, LowBitColumns{down, of.column / 64 + lane / 16, lane % 16}, {lane / 16 * 64 + lane % 16, 16}, listed,
             mine);
  __syncthreads();
  for (int i = int(threadIdx.x); i < n; i += kThreads) {
    const int row = i / kSlab, column = of.column + i % kSlab;
    const int64_t place = (int64_t(blockIdx.z) * shards.count + shard) * rows + row;
    const float* const first = reinterpret_cast<const float*>(memory) + i;
    if (column < down.width)
      sums[place * down.width + column] = sum_of_eight(first, warp_bytes<kRows>(rows) / int(sizeof(float)));
  }
}

template <int kMatrices>
void add(cudaStream_t stream, int rows, const Matrices<kMatrices>& matrices, const Shards& shards,
         const DeviceSelection& selection, const float* factors, float* sums) {
  const int width = matrices.at[0].width;
  for (const Rows& w : matrices.at)
    PLEAT_ASSERT(w.rows == selection.neurons() && shards.neurons == selection.neurons() && w.width == width, "[",
                 w.rows, ", ", w.width, "] of ", selection.neurons(), " neurons, width ", width);
  const dim3 grid(unsigned((width + kSlab - 1) / kSlab), unsigned(shards.count), kMatrices);
  with_row_capacity(rows, [&](auto capacity) {
    const size_t shared = size_t(kWarps * warp_bytes<capacity()>(rows));
    launch_overlapping(exact_rows_kernel<capacity(), kMatrices>, {grid, kThreads, shared, stream}, rows, matrices,
                       shards, selection.view().rows, factors, sums);
  });
}

}  // namespace

void add_exact_rows(cudaStream_t stream, int rows, std::initializer_list<Rows> matrices, const Shards& shards,
                    const DeviceSelection& selection, const float* factors, float* sums) {
  PLEAT_ASSERT(rows >= 1 && rows <= kMaxRows, rows, " rows");
  PLEAT_ASSERT(matrices.size() >= 1 && matrices.size() <= kMaxAdded, matrices.size(), " matrices");
  if (shards.count == 0) return;
  const Rows* const all = matrices.begin();
  if (matrices.size() == 1)
    add<1>(stream, rows, {{all[0]}}, shards, selection, factors, sums);
  else
    add<2>(stream, rows, {{all[0], all[1]}}, shards, selection, factors, sums);
}

}  // namespace pleat::cuda
