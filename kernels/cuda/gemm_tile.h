#pragma once
// What the tensor-core products share. A block sums a tile of rows of x by rows of w; a step takes some runs of 64
// bytes of each, 32 bf16 or a group of 64 int8, which copies under way bring to shared memory some steps ahead. An
// element's sum is one chain over its inputs, whatever the tile. Included by .cu files only.
#include "async_copy.h"
#include "kernels/cuda/gemm_output.h"
#include "kernels/cuda/sums.h"
#include "tensor_core.h"

namespace pleat::cuda {

constexpr int kPiece = 16;  // bytes of a copy, and of a row of what load_matrices() reads
constexpr int kRunPieces = 4, kRunBytes = kRunPieces * kPiece;

// A block's warps, by rows and by outputs, of which each has fragments of 16 rows by 8 outputs.
template <int kRowWarps, int kOutputWarps, int kRowFragments_, int kOutputFragments_, int kStepRuns_>
struct GemmTile {
  static constexpr int kStepRuns = kStepRuns_, kStepPieces = kStepRuns * kRunPieces, kStepBytes = kStepPieces * kPiece;
  static_assert(kStepRuns == 1 || kStepRuns == 2);
  static constexpr int kRowFragments = kRowFragments_, kOutputFragments = kOutputFragments_;
  static constexpr int kThreads = kRowWarps * kOutputWarps * kWarp;
  static constexpr int kRows = 16 * kRowWarps * kRowFragments, kOutputs = 8 * kOutputWarps * kOutputFragments;
  static constexpr int kRowBytes = kRows * kStepBytes, kOutputBytes = kOutputs * kStepBytes;  // of a step
  static constexpr int kSums = kRowFragments * kOutputFragments * 4;                          // of a thread
  using Sums = float[kSums / 4][4];  // by fragments, those of its first 16 rows first

  int first_row, first_output, lane;

  __device__ GemmTile() {
    const int warp = int(threadIdx.x) / kWarp;
    lane = int(threadIdx.x) % kWarp;
    first_row = warp / kOutputWarps * 16 * kRowFragments;
    first_output = warp % kOutputWarps * 8 * kOutputFragments;
  }
  // Where a piece of a row lies in a step's operand: the same piece of 8 rows is in all 32 banks.
  __device__ static int piece_at(int row, int piece) {
    return (row * kStepPieces + (piece ^ row * kStepRuns / 2 % kStepPieces)) * kPiece;
  }

  // This lane's sums [4] of fragment (i, j) are of rows row(i) and 8 below, outputs output(j) and the next.
  __device__ int row(int i) const { return first_row + 16 * i + lane / 4; }
  __device__ int output(int j) const { return first_output + 8 * j + 2 * (lane % 4); }

  struct Place {
    int row, output;
  };
  // Of sum `at` of all, in a tile whose corner is there.
  __device__ Place place(const Place& corner, int at) const {
    const int fragment = at / 4;
    return {corner.row + row(fragment / kOutputFragments) + at / 2 % 2 * 8,
            corner.output + output(fragment % kOutputFragments) + at % 2};
  }

  // Fragment i's operand, of the first or second half of a run.
  __device__ void load_rows(const unsigned char* x, int run, int half, int i, unsigned (&a)[4]) const {
    load_matrices(a, x + piece_at(first_row + 16 * i + lane % 16, run * kRunPieces + 2 * half + lane / 16));
  }
  // Those of all outputs, of both.
  __device__ void load_outputs(const unsigned char* w, int run, unsigned (&b)[kOutputFragments][2][2]) const {
    unsigned words[4];
    if constexpr (kOutputFragments == 1) {
      load_matrices(words, w + piece_at(first_output + lane % 8, run * kRunPieces + lane / 8));
#pragma unroll
      for (int i = 0; i < 4; ++i) b[0][i / 2][i % 2] = words[i];
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int pair = 0; pair < kOutputFragments / 2; ++pair) {
          const int at = first_output + 16 * pair + lane / 16 * 8 + lane % 8;
          load_matrices(words, w + piece_at(at, run * kRunPieces + 2 * half + lane / 8 % 2));
#pragma unroll
          for (int i = 0; i < 4; ++i) b[2 * pair + i / 2][half][i % 2] = words[i];
        }
    }
  }
};

// The pieces that a thread copies of a tile's rows in every step: one of each kApart-th row.
template <class Tile, int kRows>
class StepCopies {
 public:
  // Of rows from `first` on, of `rows`.
  __device__ StepCopies(const unsigned char* data, int64_t stride, int first, int rows)
      : from_(data + (first + row()) * stride + piece() * kPiece), apart_(stride * kApart), left_(rows - first) {}

  // Starts to copy bytes [begin, begin + Tile::kStepBytes) of each row; zeros beyond the rows and `end`. Where a leaf
  // begins between two pieces, bf16 numbers are copied one by one: they must lie in the tile as they do on any rank.
  __device__ void start(unsigned char* operand, int begin, int end) const {
    const int there = max(0, min(kPiece, end - begin - piece() * kPiece));
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int at = row() + i * kApart;
      if (kRows % kApart != 0 && at >= kRows) break;
      const int bytes = at < left_ ? there : 0;
      unsigned char* const to = operand + Tile::piece_at(at, piece());
      const unsigned char* const source = from_ + i * apart_ + begin;
      if (begin % kPiece == 0)
        copy_async<kPiece>(to, source, bytes);
      else
        copy_numbers(to, source, bytes);
    }
  }

 private:
  static constexpr int kApart = Tile::kThreads / Tile::kStepPieces, kCopies = (kRows + kApart - 1) / kApart;
  __device__ static int row() { return int(threadIdx.x) / Tile::kStepPieces; }
  __device__ static int piece() { return int(threadIdx.x) % Tile::kStepPieces; }
  __device__ static void copy_numbers(unsigned char* to, const unsigned char* from, int bytes) {
    for (int byte = 0; byte < kPiece; byte += 2)
      *reinterpret_cast<uint16_t*>(to + byte) =
          byte < bytes ? *reinterpret_cast<const uint16_t*>(from + byte) : uint16_t(0);
  }

  const unsigned char* from_;
  int64_t apart_;
  int left_;
};

// A tile's sums go to `out`.
template <class Tile>
__device__ void put_sums(const Tile& tile, const typename Tile::Place& corner, const typename Tile::Sums& sums,
                         const GemmOutput& out) {
#pragma unroll
  for (int at = 0; at < Tile::kSums; ++at) {
    const auto [row, output] = tile.place(corner, at);
    out.put(row, output, sums[at / 4][at % 4]);
  }
  if (!out.activates) return;
#pragma unroll 1
  for (int at = 0; at < Tile::kSums; ++at) {
    const auto [row, output] = tile.place(corner, at);
    out.activate(row, output);
  }
}

// A block a tile; the blocks of the same rows of w are neighbours.
template <class Tile>
Launch over_tiles(int rows, int outputs, size_t shared, cudaStream_t stream) {
  return {
      dim3(unsigned((rows + Tile::kRows - 1) / Tile::kRows), unsigned((outputs + Tile::kOutputs - 1) / Tile::kOutputs)),
      Tile::kThreads, shared, stream};
}

}  // namespace pleat::cuda
