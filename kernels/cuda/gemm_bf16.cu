#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/gemm_tile.h"

namespace pleat::cuda {
namespace {

constexpr int kStageBytes = 2 * kOperandBytes, kStepInputs = kStepBytes / 2;

// The steps in their order, part by part.
struct Steps {
  int part = 0, begin = 0;

  __device__ explicit Steps(const GemmOutput& out) : begin(out.begin(0)) {}
  // Where this step is; false: there is none left.
  __device__ bool reach(const GemmOutput& out, int width) {
    while (begin >= out.end(part, width)) {
      if (++part == out.parts()) return part = out.parts() - 1, false;
      begin = out.begin(part);
    }
    return true;
  }
};

__global__ void __launch_bounds__(kGemmThreads, 2) gemm_bf16_kernel(GemmInput x, Rows w, GemmOutput out) {
  unsigned char* const stages = dynamic_shared<unsigned char>();  // [kStages] of x, then w
  const int row = int(blockIdx.x) * kTileRows, output = int(blockIdx.y) * kTileRows;
  const WarpTile tile(out.rows - row);
  Steps ahead(out);
  const auto start = [&](int step) {
    unsigned char* const stage = stages + step % kStages * kStageBytes;
    if (ahead.reach(out, w.width)) {
      const int begin = ahead.begin * 2, end = out.end(ahead.part, w.width) * 2;
      start_operand(stage, x.operand, x.stride, row, out.rows, begin, end);
      start_operand(stage + kOperandBytes, w.data, w.stride, output, w.rows, begin, end);
      ahead.begin += kStepInputs;
    }
    commit_copies();
  };
  Sums sums = {};
  GemmLeaves leaves;
  for (int step = 0; step < kStages - 1; ++step) start(step);
  for (int part = 0, step = 0; part < out.parts(); ++part) {
    for (int begin = out.begin(part); begin < out.end(part, w.width); begin += kStepInputs, ++step) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // of all threads; and the stage that is filled next has been read
      start(step + kStages - 1);
      const unsigned char* const stage = stages + step % kStages * kStageBytes;
      tile.for_fragments(stage, stage + kOperandBytes,
                         [&](int i, int j, const unsigned(&a)[2][4], const unsigned(&b)[2][2]) {
                           for (int half = 0; half < 2; ++half) multiply_add(sums[i][j], a[half], b[half]);
                         });
    }
    if (out.leaves.count > 0) leaves.end_leaf(part, out, [&](auto use) { for_sums(tile, row, output, sums, use); });
  }
  if (out.leaves.count == 0) put_sums(tile, row, output, sums, out);
}

}  // namespace

void gemm_bf16(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  launch(gemm_bf16_kernel, over_tiles(int(x.x.rows), product.w.rows, kStages * kStageBytes, stream), x, product.w,
         GemmOutput(product));
}

}  // namespace pleat::cuda
