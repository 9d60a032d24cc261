#include "kernels/cuda/embedding.h"

#include "kernels/cuda/weight_at.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 4;  // columns of a thread

// A block a row and kEach * kThreads columns.
__global__ void __launch_bounds__(kThreads)
    embed_kernel(int d, const int32_t* token_ids, TokenEmbedding tokens, const int32_t* positions,
                 PositionEmbedding learned, float* out) {
  let_next_start();
  wait_for_previous();
  const int row = int(blockIdx.x);
  const int64_t token = int64_t(token_ids[row]) - tokens.first_token;
  const bool is_mine = token >= 0 && token < tokens.table.rows;
  const int64_t position = learned.table.rows > 0 ? int64_t(positions[row]) + learned.offset : 0;
#pragma unroll
  for (int each = 0; each < kEach; ++each) {
    const int i = (int(blockIdx.y) * kEach + each) * kThreads + int(threadIdx.x);
    if (i >= d) continue;
    float value = is_mine ? __fmul_rn(tokens.scale, weight_at(tokens.table, int(token), i)) : 0.0f;
    if (learned.table.rows > 0) value += weight_at(learned.table, int(position), i);
    out[int64_t(row) * d + i] = value;
  }
}

}  // namespace

void embed(cudaStream_t stream, int rows, int d, const int32_t* token_ids, const TokenEmbedding& tokens,
           const int32_t* positions, const PositionEmbedding& learned, float* out) {
  const dim3 blocks(unsigned(rows), unsigned((d + kEach * kThreads - 1) / (kEach * kThreads)));
  launch_overlapping(embed_kernel, {blocks, kThreads, 0, stream}, d, token_ids, tokens, positions, learned, out);
}

}  // namespace pleat::cuda
