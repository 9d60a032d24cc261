#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/gemm_tile.h"
#include "kernels/cuda/low_bit_codes.h"

namespace pleat::cuda {
namespace {

// A stage is a group of x and the codes of w as they are stored; codes become int8 when their step comes.
template <int kBits>
struct LowBitTile {
  static constexpr int kCodeBytes = 8 * kBits;  // of a group of an output
  static constexpr int kStageBytes = kOperandBytes + kTileRows * kCodeBytes;
  static constexpr size_t kSharedBytes = kStages * kStageBytes + kOperandBytes + 2 * kTileRows * sizeof(float2);
};

// Starts to copy a group's codes of outputs from `first` on.
template <int kBits>
__device__ void start_codes(unsigned char* codes, const Rows& w, int first, int group) {
  constexpr int kBytes = LowBitTile<kBits>::kCodeBytes;
  for (int i = int(threadIdx.x); i < kTileRows * kBits; i += kGemmThreads) {
    const int output = i / kBits, at = i % kBits * 8;
    const bool exists = first + output < w.rows;
    const unsigned char* const row = w.data + (exists ? first + output : 0) * w.stride;
    copy_async<8>(codes + output * kBytes + at, row + group * kBytes + at, exists ? 8 : 0);
  }
}

// Half of the words of one output's group.
template <int kBits>
__device__ void decode(const unsigned char* codes, unsigned char* operand) {
  const int output = int(threadIdx.x) / 2, half = int(threadIdx.x) % 2;
  const auto* const words = reinterpret_cast<const unsigned*>(codes + output * LowBitTile<kBits>::kCodeBytes);
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

// Of a group: an output's scale and minimum, or a row's scale and sum. Zeros beyond the ends.
template <int kBits>
__device__ float2 scales_of(const GemmInput& x, const Rows& w, int row, int output, int group) {
  const int at = int(threadIdx.x) % kTileRows, groups = x.groups();
  if (group >= groups) return {0, 0};
  if (int(threadIdx.x) < kTileRows) {
    if (output + at >= w.rows) return {0, 0};
    const LowBitScales scales(w, w.data + (output + at) * w.stride, kBits, groups);
    return {scales.scale(group), scales.minimum(group)};
  }
  if (row + at >= x.x.rows) return {0, 0};
  const int64_t i = int64_t(row + at) * groups + group;
  return {x.scales[i], float(x.sums[i])};
}

template <int kBits>
__device__ void add_protected(const WarpTile& tile, const GemmInput& x, const Rows& w, int row, int output, int begin,
                              int end, Sums& sums) {
  for (int protected_input = 0; protected_input < w.protected_input_count; ++protected_input) {
    const int input = w.protected_inputs[protected_input];
    if (input < begin || input >= end) continue;
    const float* const values = x.x.data + input;
    float weight[kOutputFragments][2];
#pragma unroll
    for (int i = 0; i < 2 * kOutputFragments; ++i) {
      const int at = min(output + tile.output(i / 2) + i % 2, w.rows - 1);
      weight[i / 2][i % 2] =
          from_bf16(LowBitScales(w, w.data + at * w.stride, kBits, x.groups()).protected_weights[protected_input]);
    }
#pragma unroll
    for (int i = 0; i < 2 * kRowFragments; ++i) {
      const int at = min(row + tile.row(i / 2) + i % 2 * 8, int(x.x.rows) - 1);
      const float value = values[at * x.x.stride];
#pragma unroll
      for (int j = 0; j < kOutputFragments; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& sum = sums[i / 2][j][i % 2 * 2 + e];
          sum += value * weight[j][e];
        }
    }
  }
}

template <int kBits>
__global__ void __launch_bounds__(kGemmThreads, 1) gemm_low_bit_kernel(GemmInput x, Rows w, GemmOutput out) {
  constexpr int kStageBytes = LowBitTile<kBits>::kStageBytes;
  unsigned char* const stages = dynamic_shared<unsigned char>();
  unsigned char* const decoded = stages + kStages * kStageBytes;
  float2* const of_outputs = reinterpret_cast<float2*>(decoded + kOperandBytes);  // [kTileRows] scale, minimum
  float2* const of_rows = of_outputs + kTileRows;                                 // [kTileRows] scale, sum
  const int row = int(blockIdx.x) * kTileRows, output = int(blockIdx.y) * kTileRows, groups = x.groups();
  const WarpTile tile(out.rows - row);
  const auto start = [&](int group) {
    unsigned char* const stage = stages + group % kStages * kStageBytes;
    if (group < groups) {
      start_operand(stage, x.operand, x.stride, row, out.rows, group * kStepBytes, int(x.stride));
      start_codes<kBits>(stage + kOperandBytes, w, output, group);
    }
    commit_copies();
  };
  Sums sums = {};
  float2 next = scales_of<kBits>(x, w, row, output, 0);
  for (int group = 0; group < kStages - 1; ++group) start(group);
  GemmLeaves leaves;
  for (int part = 0; part < out.parts(); ++part) {
    const int begin = out.begin(part), end = out.end(part, w.width);
    for (int group = begin / 64; group * 64 < end; ++group) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // of all threads; and what is filled next has been read
      start(group + kStages - 1);
      const unsigned char* const stage = stages + group % kStages * kStageBytes;
      decode<kBits>(stage + kOperandBytes, decoded);
      of_outputs[threadIdx.x] = next;  // of rows, for the second half of the threads
      next = scales_of<kBits>(x, w, row, output, group + 1);
      __syncthreads();
      tile.for_fragments(stage, decoded, [&](int i, int j, const unsigned(&a)[2][4], const unsigned(&b)[2][2]) {
        int dots[4] = {};
        for (int half = 0; half < 2; ++half) multiply_add(dots, a[half], b[half]);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float2 of_row = of_rows[tile.row(i) + e / 2 * 8], of_output = of_outputs[tile.output(j) + e % 2];
          const float term = fmaf(of_output.x, float(dots[e]), of_output.y * of_row.y);
          sums[i][j][e] = fmaf(of_row.x, term, sums[i][j][e]);
        }
      });
    }
    add_protected<kBits>(tile, x, w, row, output, begin, end, sums);
    if (out.leaves.count > 0) leaves.end_leaf(part, out, [&](auto use) { for_sums(tile, row, output, sums, use); });
  }
  if (out.leaves.count == 0) put_sums(tile, row, output, sums, out);
}

template <int kBits>
void run(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  launch(gemm_low_bit_kernel<kBits>, over_tiles(int(x.x.rows), product.w.rows, LowBitTile<kBits>::kSharedBytes, stream),
         x, product.w, GemmOutput(product));
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
