#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/gemm_tile.h"

namespace pleat::cuda {
namespace {

constexpr int kStageBytes = 2 * kOperandBytes;

__global__ void __launch_bounds__(kGemmThreads, 2) gemm_bf16_kernel(GemmInput x, Rows w, GemmOutput out) {
  unsigned char* const stages = dynamic_shared<unsigned char>();  // [kStages] of x, then w
  const int row = int(blockIdx.x) * kTileRows, output = int(blockIdx.y) * kTileRows;
  const int row_bytes = w.width * 2, steps = (row_bytes + kStepBytes - 1) / kStepBytes;
  const WarpTile tile(out.rows - row);
  const auto start = [&](int step) {
    unsigned char* const stage = stages + step % kStages * kStageBytes;
    if (step < steps) {
      start_operand(stage, x.operand, x.stride, row, out.rows, step * kStepBytes, row_bytes);
      start_operand(stage + kOperandBytes, w.data, w.stride, output, w.rows, step * kStepBytes, row_bytes);
    }
    commit_copies();
  };
  Sums sums = {};
  for (int step = 0; step < kStages - 1; ++step) start(step);
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // of all threads; and the stage that is filled next has been read
    start(step + kStages - 1);
    const unsigned char* const stage = stages + step % kStages * kStageBytes;
    tile.for_fragments(stage, stage + kOperandBytes,
                       [&](int i, int j, const unsigned(&a)[2][4], const unsigned(&b)[2][2]) {
                         for (int half = 0; half < 2; ++half) multiply_add(sums[i][j], a[half], b[half]);
                       });
  }
  put_sums(tile, row, output, sums, out);
}

}  // namespace

void gemm_bf16(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  launch(gemm_bf16_kernel, over_tiles(int(x.x.rows), product.w.rows, kStages * kStageBytes, stream), x, product.w,
         GemmOutput(product));
}

}  // namespace pleat::cuda
