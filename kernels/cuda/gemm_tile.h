#pragma once
// What the tensor-core products share. A block of 8 warps sums a tile of 128 rows of x by 128 of w; a step takes 64
// bytes of each, 32 bf16 or a group of 64 int8, which copies under way bring to shared memory kStages - 1 steps ahead.
// Included by .cu files only.
#include "async_copy.h"
#include "kernels/cuda/gemm_output.h"
#include "kernels/cuda/sums.h"
#include "tensor_core.h"

namespace pleat::cuda {

constexpr int kTileRows = 128;  // of x and of w
constexpr int kGemmThreads = 256;
constexpr int kStages = 4;
constexpr int kPiece = 16;  // bytes of a copy, and of a row of what load_matrices() reads
constexpr int kStepPieces = 4;
constexpr int kStepBytes = kStepPieces * kPiece;
constexpr int kOperandBytes = kTileRows * kStepBytes;  // of a tile's rows in a step
constexpr int kRowFragments = 4,
              kOutputFragments = 4;  // a warp has 64 rows, 16 a fragment, by 32 outputs, 8 a fragment

// Where a piece of a tile's row lies in its operand: the same piece of 8 rows is in all 32 banks.
__device__ inline int piece_at(int row, int piece) {
  return (row * kStepPieces + (piece ^ row / 2 % kStepPieces)) * kPiece;
}

// Starts to copy bytes [begin, begin + kStepBytes) of rows from `first` on; zeros beyond `rows` and `end`. Where a leaf
// begins between two pieces, bf16 numbers are copied one by one: they must lie in the tile as they do on any rank.
__device__ inline void start_operand(unsigned char* operand, const unsigned char* from, int64_t stride, int first,
                                     int rows, int begin, int end) {
  for (int i = int(threadIdx.x); i < kTileRows * kStepPieces; i += kGemmThreads) {
    const int row = i / kStepPieces, piece = i % kStepPieces, at = begin + piece * kPiece;
    const int bytes = first + row < rows ? max(0, min(kPiece, end - at)) : 0;
    unsigned char* const to = operand + piece_at(row, piece);
    const unsigned char* const source = bytes > 0 ? from + (first + row) * stride + at : from;
    if (begin % kPiece == 0) {
      copy_async<kPiece>(to, source, bytes);
      continue;
    }
    for (int byte = 0; byte < kPiece; byte += 2)
      *reinterpret_cast<uint16_t*>(to + byte) =
          byte < bytes ? *reinterpret_cast<const uint16_t*>(source + byte) : uint16_t(0);
  }
}

// A warp's corner of the tile, and what this lane holds of it: fragment (i, j)'s sums [4] are of rows row(i) and 8
// below, outputs output(j) and the next.
struct WarpTile {
  int first_row, first_output, lane;
  int row_fragments;  // that begin before the last row of x

  __device__ explicit WarpTile(int rows_left) {
    const int warp = int(threadIdx.x) / kWarp;
    lane = int(threadIdx.x) % kWarp;
    first_row = warp / 4 * 16 * kRowFragments;
    first_output = warp % 4 * 8 * kOutputFragments;
    row_fragments = max(0, min(kRowFragments, (rows_left - first_row + 15) / 16));
  }
  __device__ int row(int i) const { return first_row + 16 * i + lane / 4; }
  __device__ int output(int j) const { return first_output + 8 * j + 2 * (lane % 4); }

  // Calls use(i, j, a, b) with the operands of every fragment, those of the first and of the second 32 bytes of a step.
  template <class Use>
  __device__ void for_fragments(const unsigned char* x, const unsigned char* w, Use use) const {
    unsigned b[kOutputFragments][2][2];
#pragma unroll
    for (int pair = 0; pair < kOutputFragments / 2; ++pair)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        unsigned words[4];
        const int row = first_output + 16 * pair + lane / 16 * 8 + lane % 8;
        load_matrices(words, w + piece_at(row, 2 * half + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < 4; ++i) b[2 * pair + i / 2][half][i % 2] = words[i];
      }
#pragma unroll
    for (int i = 0; i < kRowFragments; ++i) {
      if (i >= row_fragments) break;
      unsigned a[2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half)
        load_matrices(a[half], x + piece_at(first_row + 16 * i + lane % 16, 2 * half + lane / 16));
#pragma unroll
      for (int j = 0; j < kOutputFragments; ++j) use(i, j, a, b[j]);
    }
  }
};

using Sums = float[kRowFragments][kOutputFragments][4];

// Calls use(row, output, sum) for each of the thread's sums of a tile at (row, output).
template <class Use>
__device__ void for_sums(const WarpTile& tile, int row, int output, Sums& sums, Use use) {
#pragma unroll
  for (int i = 0; i < kRowFragments; ++i)
#pragma unroll
    for (int j = 0; j < kOutputFragments; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) use(row + tile.row(i) + e / 2 * 8, output + tile.output(j) + e % 2, sums[i][j][e]);
}

// Element e of fragment (i, j), counted from the tile's corner at (row, output), goes to `out`.
__device__ inline void put_sums(const WarpTile& tile, int row, int output, const Sums& sums, const GemmOutput& out) {
#pragma unroll
  for (int i = 0; i < kRowFragments; ++i)
#pragma unroll
    for (int j = 0; j < kOutputFragments; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        out.put(row + tile.row(i) + e / 2 * 8, output + tile.output(j) + e % 2, sums[i][j][e]);
  if (!out.activates) return;
#pragma unroll 1
  for (int at = 0; at < kRowFragments * kOutputFragments * 4; ++at)
    out.activate(row + tile.row(at / 16) + at / 2 % 2 * 8, output + tile.output(at / 4 % 4) + at % 2);
}

// A block a tile; the blocks of the same rows of w are neighbours.
inline Launch over_tiles(int rows, int outputs, size_t shared, cudaStream_t stream) {
  const auto tiles = [](int count) { return unsigned((count + kTileRows - 1) / kTileRows); };
  return {dim3(tiles(rows), tiles(outputs)), kGemmThreads, shared, stream};
}

}  // namespace pleat::cuda
