#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/gemm_tile.h"
#include "kernels/cuda/low_bit_codes.h"

namespace pleat::cuda {
namespace {

constexpr int kStages = 4;

// A stage is a group of x and the codes of w as they are stored; codes become int8 when their step comes.
template <class Tile, int kBits>
struct LowBitStages {
  static constexpr int kCodeBytes = 8 * kBits;  // of a group of an output
  static constexpr int kBytes = Tile::kRowBytes + Tile::kOutputs * kCodeBytes;
  static constexpr int kScales = Tile::kOutputs + Tile::kRows;
  static constexpr size_t kSharedBytes = kStages * kBytes + Tile::kOutputBytes + kScales * sizeof(float2);
};

// Starts to copy a group's codes of outputs from `first` on.
template <class Tile, int kBits>
__device__ void start_codes(unsigned char* codes, const Rows& w, int first, int group) {
  constexpr int kBytes = LowBitStages<Tile, kBits>::kCodeBytes;
  for (int i = int(threadIdx.x); i < Tile::kOutputs * kBits; i += Tile::kThreads) {
    const int output = i / kBits, at = i % kBits * 8;
    const bool exists = first + output < w.rows;
    const unsigned char* const row = w.data + (exists ? first + output : 0) * w.stride;
    copy_async<8>(codes + output * kBytes + at, row + group * kBytes + at, exists ? 8 : 0);
  }
}

// A thread half of the words of an output's group.
template <class Tile, int kBits>
__device__ void decode(const unsigned char* codes, unsigned char* operand) {
  const int output = int(threadIdx.x) / 2, half = int(threadIdx.x) % 2;
  if (output >= Tile::kOutputs) return;
  const auto* const words = reinterpret_cast<const unsigned*>(codes + output * LowBitStages<Tile, kBits>::kCodeBytes);
#pragma unroll
  for (int piece = 0; piece < 2; ++piece) {
    int decoded[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      decoded[i] = code_word([&](int word) { return words[word]; }, kBits, 8 * half + 4 * piece + i);
    *reinterpret_cast<int4*>(operand + piece_at(output, 2 * half + piece)) =
        make_int4(decoded[0], decoded[1], decoded[2], decoded[3]);
  }
}

// Of a group: an output's scale and minimum, or, from thread Tile::kOutputs on, a row's scale and sum. Zeros beyond the
// ends.
template <class Tile, int kBits>
__device__ float2 scales_of(const GemmInput& x, const Rows& w, const typename Tile::Place& corner, int group) {
  const int at = int(threadIdx.x), groups = x.groups();
  if (group >= groups || at >= LowBitStages<Tile, kBits>::kScales) return {0, 0};
  if (at < Tile::kOutputs) {
    if (corner.output + at >= w.rows) return {0, 0};
    const LowBitScales scales(w, w.data + (corner.output + at) * w.stride, kBits, groups);
    return {scales.scale(group), scales.minimum(group)};
  }
  const int row = corner.row + at - Tile::kOutputs;
  if (row >= x.x.rows) return {0, 0};
  const int64_t i = int64_t(row) * groups + group;
  return {x.scales[i], float(x.sums[i])};
}

template <class Tile, int kBits>
__device__ void add_protected(const Tile& tile, const GemmInput& x, const Rows& w, const typename Tile::Place& corner,
                              int begin, int end, typename Tile::Sums& sums) {
  constexpr int kRowFragments = Tile::kRowFragments, kOutputFragments = Tile::kOutputFragments;
  for (int protected_input = 0; protected_input < w.protected_input_count; ++protected_input) {
    const int input = w.protected_inputs[protected_input];
    if (input < begin || input >= end) continue;
    const float* const values = x.x.data + input;
    float weight[kOutputFragments][2];
#pragma unroll
    for (int i = 0; i < 2 * kOutputFragments; ++i) {
      const int at = min(corner.output + tile.output(i / 2) + i % 2, w.rows - 1);
      weight[i / 2][i % 2] =
          from_bf16(LowBitScales(w, w.data + at * w.stride, kBits, x.groups()).protected_weights[protected_input]);
    }
#pragma unroll
    for (int i = 0; i < 2 * kRowFragments; ++i) {
      const int at = min(corner.row + tile.row(i / 2) + i % 2 * 8, int(x.x.rows) - 1);
      const float value = values[at * x.x.stride];
#pragma unroll
      for (int j = 0; j < kOutputFragments; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& sum = sums[i / 2 * kOutputFragments + j][i % 2 * 2 + e];
          sum += value * weight[j][e];
        }
    }
  }
}

template <class Tile, int kBits, bool kByLeaves>
__global__ void __launch_bounds__(Tile::kThreads) gemm_low_bit_kernel(GemmInput x, Rows w, GemmOutput out) {
  using Stages = LowBitStages<Tile, kBits>;
  static_assert(Tile::kThreads >= Stages::kScales && Tile::kThreads >= 2 * Tile::kOutputs);
  unsigned char* const stages = dynamic_shared<unsigned char>();
  unsigned char* const decoded = stages + kStages * Stages::kBytes;
  float2* const of_outputs = reinterpret_cast<float2*>(decoded + Tile::kOutputBytes);  // [kOutputs] scale, minimum
  float2* const of_rows = of_outputs + Tile::kOutputs;                                 // [kRows] scale, sum
  const typename Tile::Place corner{int(blockIdx.x) * Tile::kRows, int(blockIdx.y) * Tile::kOutputs};
  const int groups = x.groups();
  const Tile tile;
  const StepCopies<Tile::kRows, Tile::kThreads> of_x(x.operand, x.stride, corner.row, out.rows);
  const auto stage_of = [&](int group) { return stages + group % kStages * Stages::kBytes; };
  const auto start = [&](int group) {
    if (group < groups) {
      of_x.start(stage_of(group), group * kStepBytes, int(x.stride));
      start_codes<Tile, kBits>(stage_of(group) + Tile::kRowBytes, w, corner.output, group);
    }
    commit_copies();
  };
  typename Tile::Sums sums = {};
  float2 next = scales_of<Tile, kBits>(x, w, corner, 0);
  for (int group = 0; group < kStages - 1; ++group) start(group);
  GemmLeaves<Tile::kSums, Tile::kThreads> leaves(stages + Stages::kSharedBytes);
  for (int part = 0; part < out.parts(); ++part) {
    const int begin = out.begin(part), end = out.end(part, w.width);
    for (int group = begin / 64; group * 64 < end; ++group) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // of all threads; and what is filled next has been read
      start(group + kStages - 1);
      decode<Tile, kBits>(stage_of(group) + Tile::kRowBytes, decoded);
      if (int(threadIdx.x) < Stages::kScales) of_outputs[threadIdx.x] = next;  // and of rows, which stand behind
      next = scales_of<Tile, kBits>(x, w, corner, group + 1);
      __syncthreads();
      unsigned b[Tile::kOutputFragments][2][2];
      tile.load_outputs(decoded, b);
#pragma unroll
      for (int i = 0; i < Tile::kRowFragments; ++i) {
        unsigned a[2][4];
#pragma unroll
        for (int half = 0; half < 2; ++half) tile.load_rows(stage_of(group), half, i, a[half]);
#pragma unroll
        for (int j = 0; j < Tile::kOutputFragments; ++j) {
          int dots[4] = {};
#pragma unroll
          for (int half = 0; half < 2; ++half) multiply_add(dots, a[half], b[j][half]);
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float2 of_row = of_rows[tile.row(i) + e / 2 * 8], of_output = of_outputs[tile.output(j) + e % 2];
            const float term = fmaf(of_output.x, float(dots[e]), of_output.y * of_row.y);
            float& sum = sums[i * Tile::kOutputFragments + j][e];
            sum = fmaf(of_row.x, term, sum);
          }
        }
      }
    }
    add_protected<Tile, kBits>(tile, x, w, corner, begin, end, sums);
    if constexpr (kByLeaves) leaves.end_leaf(part, out, sums, [&](int at) { return tile.place(corner, at); });
  }
  if constexpr (!kByLeaves) put_sums(tile, corner, sums, out);
}

template <class Tile, int kBits>
void run(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  constexpr size_t kBytes = LowBitStages<Tile, kBits>::kSharedBytes;
  const auto over = [&](auto kernel, size_t shared) {
    launch(kernel, over_tiles<Tile>(int(x.x.rows), product.w.rows, shared, stream), x, product.w, GemmOutput(product));
  };
  if (product.leaves.count > 0)
    over(gemm_low_bit_kernel<Tile, kBits, true>, kBytes + GemmLeaves<Tile::kSums, Tile::kThreads>::kSharedBytes);
  else
    over(gemm_low_bit_kernel<Tile, kBits, false>, kBytes);
}

template <int kBits>
void run(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  if (x.x.rows <= 64) return run<GemmTile<1, 4, 4, 1>, kBits>(stream, x, product);
  run<GemmTile<2, 4, 4, 4>, kBits>(stream, x, product);
}

}  // namespace

void gemm_low_bit(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  switch (product.w.bits) {
    case 8:
      return run<8>(stream, x, product);
    case 6:
      return run<6>(stream, x, product);
    case 5:
      return run<5>(stream, x, product);
    case 4:
      return run<4>(stream, x, product);
    case 3:
      return run<3>(stream, x, product);
    case 2:
      return run<2>(stream, x, product);
    default:
      return run<1>(stream, x, product);
  }
}

}  // namespace pleat::cuda
