#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/gemm_tile.h"
#include "kernels/cuda/low_bit_codes.h"

namespace pleat::cuda {
namespace {

constexpr int kStages = 4;

// A stage is a group of x and the codes of w as they are stored. Codes become int8 while the group before is
// multiplied.
template <class Tile, int kBits>
struct LowBitStages {
  static constexpr int kCodeBytes = 8 * kBits;  // of a group of an output
  static constexpr int kBytes = Tile::kRowBytes + Tile::kOutputs * kCodeBytes;
  static constexpr int kScales = Tile::kOutputs + Tile::kRows;
  static constexpr int kDecodedBytes = Tile::kOutputBytes + kScales * int(sizeof(float2));
  static constexpr size_t kSharedBytes = kStages * kBytes + 2 * kDecodedBytes;
};

// A group that can be multiplied.
template <class Tile>
struct DecodedGroup {
  unsigned char* codes;  // [kOutputs] of 64 int8
  float2* of_outputs;    // [kOutputs] scale, minimum
  float2* of_rows;       // [kRows] scale, sum; behind those of outputs

  __device__ explicit DecodedGroup(unsigned char* memory)
      : codes(memory),
        of_outputs(reinterpret_cast<float2*>(memory + Tile::kOutputBytes)),
        of_rows(of_outputs + Tile::kOutputs) {}
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
    *reinterpret_cast<int4*>(operand + Tile::piece_at(output, 2 * half + piece)) =
        make_int4(decoded[0], decoded[1], decoded[2], decoded[3]);
  }
}

// Of a group, as a DecodedGroup has them: an output's, or from thread Tile::kOutputs on a row's. Zeros beyond the ends.
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

// Adds a group's terms to the sums.
template <class Tile>
__device__ void add_group(const Tile& tile, const unsigned char* x, const DecodedGroup<Tile>& w,
                          typename Tile::Sums& sums) {
  // A sum of products of int8 that begins with this number has the bits of the float 1.5 2^23 + sum.
  constexpr int kBase = 0x4b400000;
  constexpr float kBaseAsFloat = 12582912.0f;
  unsigned b[Tile::kOutputFragments][2][2];
  float2 of_outputs[Tile::kOutputFragments][2];
  tile.load_outputs(w.codes, 0, b);
#pragma unroll
  for (int j = 0; j < Tile::kOutputFragments; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) of_outputs[j][e] = w.of_outputs[tile.output(j) + e];
#pragma unroll
  for (int i = 0; i < Tile::kRowFragments; ++i) {
    unsigned a[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) tile.load_rows(x, 0, half, i, a[half]);
    const float2 of_rows[2] = {w.of_rows[tile.row(i)], w.of_rows[tile.row(i) + 8]};
#pragma unroll
    for (int j = 0; j < Tile::kOutputFragments; ++j) {
      int dots[4] = {kBase, kBase, kBase, kBase};
#pragma unroll
      for (int half = 0; half < 2; ++half) multiply_add(dots, a[half], b[j][half]);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float2 of_row = of_rows[e / 2], of_output = of_outputs[j][e % 2];
        const float dot = __uint_as_float(unsigned(dots[e])) - kBaseAsFloat;
        const float term = fmaf(of_output.x, dot, of_output.y * of_row.y);
        float& sum = sums[i * Tile::kOutputFragments + j][e];
        sum = fmaf(of_row.x, term, sum);
      }
    }
  }
}

template <class Tile, int kBits, bool kByLeaves>
__global__ void __launch_bounds__(Tile::kThreads) gemm_low_bit_kernel(GemmInput x, Rows w, GemmOutput out, int room) {
  using Stages = LowBitStages<Tile, kBits>;
  static_assert(Tile::kThreads >= Stages::kScales && Tile::kThreads >= 2 * Tile::kOutputs);
  unsigned char* const stages = dynamic_shared<unsigned char>();
  const typename Tile::Place corner{int(blockIdx.x) * Tile::kRows, int(blockIdx.y) * Tile::kOutputs};
  const int groups = x.groups();
  const Tile tile;
  const StepCopies<Tile, Tile::kRows> of_x(x.operand, x.stride, corner.row, out.rows);
  const auto stage_of = [&](int group) { return stages + group % kStages * Stages::kBytes; };
  const auto decoded = [&](int group) {
    return DecodedGroup<Tile>(stages + kStages * Stages::kBytes + group % 2 * Stages::kDecodedBytes);
  };
  const auto start = [&](int group) {
    if (group < groups) {
      of_x.start(stage_of(group), group * kRunBytes, int(x.stride));
      start_codes<Tile, kBits>(stage_of(group) + Tile::kRowBytes, w, corner.output, group);
    }
    commit_copies();
  };
  float2 scales = scales_of<Tile, kBits>(x, w, corner, 0);  // of the group that is decoded next
  const auto decode_next = [&](int group) {
    if (group >= groups) return;
    decode<Tile, kBits>(stage_of(group) + Tile::kRowBytes, decoded(group).codes);
    if (int(threadIdx.x) < Stages::kScales) decoded(group).of_outputs[threadIdx.x] = scales;
    scales = scales_of<Tile, kBits>(x, w, corner, group + 1);
  };
  typename Tile::Sums sums = {};
  GemmLeaves<Tile::kSums, Tile::kThreads> leaves(stages + Stages::kSharedBytes, room);
  for (int group = 0; group < kStages - 1; ++group) start(group);
  wait_for_copies<kStages - 2>();
  __syncthreads();
  decode_next(0);
  for (int part = 0; part < out.parts(); ++part) {
    const int begin = out.begin(part), end = out.end(part, w.width);
    for (int group = (begin + 63) / 64; group * 64 < end; ++group) {  // none of an empty leaf behind the last one
      wait_for_copies<kStages - 3>();
      __syncthreads();  // of all threads; this group is decoded, and what is filled next has been read
      start(group + kStages - 1);
      decode_next(group + 1);
      add_group(tile, stage_of(group), decoded(group), sums);
    }
    add_protected<Tile, kBits>(tile, x, w, corner, begin, end, sums);
    if constexpr (kByLeaves) leaves.end_leaf(part, out, sums, [&](int at) { return tile.place(corner, at); });
  }
  if constexpr (!kByLeaves) put_sums(tile, corner, sums, out);
}

template <class Tile, int kBits>
void run(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  using Waiting = GemmLeaves<Tile::kSums, Tile::kThreads>;
  constexpr size_t kBytes = LowBitStages<Tile, kBits>::kSharedBytes;
  const bool by_leaves = product.leaves.count > 0;
  const int room = by_leaves ? Waiting::room(product.leaves, kBytes) : 0;
  launch(by_leaves ? gemm_low_bit_kernel<Tile, kBits, true> : gemm_low_bit_kernel<Tile, kBits, false>,
         over_tiles<Tile>(int(x.x.rows), product.w.rows, kBytes + size_t(room) * Waiting::kBytes, stream), x, product.w,
         GemmOutput(product), room);
}

template <int kBits>
void run(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  if (x.x.rows <= 64) return run<GemmTile<1, 4, 4, 1, 1>, kBits>(stream, x, product);
  run<GemmTile<2, 4, 4, 4, 1>, kBits>(stream, x, product);
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
