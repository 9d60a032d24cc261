#include "kernels/cuda/floats.h"
#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/gemm_output.h"

namespace pleat::cuda {
namespace {

// A block sums a tile of 64 rows by 64 outputs, 16 inputs a step; a thread 4 by 4 of it.
constexpr int kTile = 64, kStep = 16, kThreads = 256, kOwn = 4;
constexpr int kPadded = kTile + 4;  // floats from input to input: a thread's writes of a step lie in different banks

using Own = Floats<kOwn>;

// Inputs [begin, begin + kStep) of rows from `first` on, input by input; zeros beyond the ends.
__device__ void copy_step(float* tile, const float* from, int64_t stride, int first, int rows, int begin, int end) {
  for (int i = int(threadIdx.x); i < kTile * kStep; i += kThreads) {
    const int row = i / kStep, k = i % kStep;
    const bool exists = first + row < rows && begin + k < end;
    tile[k * kPadded + row] = exists ? from[(first + row) * stride + begin + k] : 0.0f;
  }
}

__global__ void __launch_bounds__(kThreads) gemm_f32_kernel(MatrixView<const float> x, Rows w, GemmOutput out) {
  __shared__ SharedArray<float, kStep * kPadded> x_tile, w_tile;
  __shared__ SharedArray<float, kOwn * kOwn * kThreads> waiting;
  const int row = int(blockIdx.x) * kTile, output = int(blockIdx.y) * kTile;
  const int own_row = int(threadIdx.x) / (kTile / kOwn) * kOwn, own_output = int(threadIdx.x) % (kTile / kOwn) * kOwn;
  float sums[kOwn][kOwn] = {};
  GemmLeaves<kOwn * kOwn, kThreads> leaves(waiting.data(), 1);
  struct Place {
    int row, output;
  };
  const auto place = [&](int at) { return Place{row + own_row + at / kOwn, output + own_output + at % kOwn}; };
  for (int part = 0; part < out.parts(); ++part) {
    const int end = out.end(part, w.width);
    for (int begin = out.begin(part); begin < end; begin += kStep) {
      __syncthreads();
      copy_step(x_tile.data(), x.data, x.stride, row, out.rows, begin, end);
      copy_step(w_tile.data(), reinterpret_cast<const float*>(w.data), w.stride / 4, output, w.rows, begin, end);
      __syncthreads();
      for (int k = 0; k < min(kStep, end - begin); ++k) {
        const Own a = Own::load(x_tile.data() + k * kPadded + own_row);
        const Own b = Own::load(w_tile.data() + k * kPadded + own_output);
#pragma unroll
        for (int i = 0; i < kOwn; ++i)
#pragma unroll
          for (int j = 0; j < kOwn; ++j) sums[i][j] = fmaf(a.at[i], b.at[j], sums[i][j]);
      }
    }
    if (out.leaves.count > 0) leaves.end_leaf(part, out, sums, place);
  }
  if (out.leaves.count > 0) return;
#pragma unroll
  for (int at = 0; at < kOwn * kOwn; ++at) out.put(place(at).row, place(at).output, sums[at / kOwn][at % kOwn]);
  if (!out.activates) return;
#pragma unroll 1
  for (int at = 0; at < kOwn * kOwn; ++at) out.activate(place(at).row, place(at).output);
}

}  // namespace

void gemm_f32(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  const auto tiles = [](int64_t count) { return unsigned((count + kTile - 1) / kTile); };
  launch(gemm_f32_kernel, {dim3(tiles(x.x.rows), tiles(product.w.rows)), kThreads, 0, stream}, x.x, product.w,
         GemmOutput(product));
}

}  // namespace pleat::cuda
