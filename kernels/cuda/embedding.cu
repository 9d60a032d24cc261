#include "kernels/cuda/embedding.h"

#include "device_language.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float element(const Rows& table, int64_t row, int i) {
  const unsigned char* const at = table.data + row * table.stride;
  if (table.bits == 32) return reinterpret_cast<const float*>(at)[i];
  return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(at)[i]);
}

// One block a row.
__global__ void __launch_bounds__(kThreads)
    embed_kernel(int d, const int32_t* token_ids, TokenEmbedding tokens, const int32_t* positions,
                 PositionEmbedding learned, float* out) {
  const int row = int(blockIdx.x);
  const int64_t token = int64_t(token_ids[row]) - tokens.first_token;
  const bool is_mine = token >= 0 && token < tokens.table.rows;
  const int64_t position = learned.table.rows > 0 ? int64_t(positions[row]) + learned.offset : 0;
  for (int i = int(threadIdx.x); i < d; i += kThreads) {
    float value = is_mine ? __fmul_rn(tokens.scale, element(tokens.table, token, i)) : 0.0f;
    if (learned.table.rows > 0) value += element(learned.table, position, i);
    out[int64_t(row) * d + i] = value;
  }
}

bool has_floats(const Rows& table) { return table.rows == 0 || table.bits > 8; }

}  // namespace

void embed(cudaStream_t stream, int rows, int d, const int32_t* token_ids, const TokenEmbedding& tokens,
           const int32_t* positions, const PositionEmbedding& learned, float* out) {
  PLEAT_ASSERT(has_floats(tokens.table) && has_floats(learned.table), tokens.table.bits, ", ", learned.table.bits);
  launch(embed_kernel, {unsigned(rows), kThreads, 0, stream}, d, token_ids, tokens, positions, learned, out);
}

}  // namespace pleat::cuda
