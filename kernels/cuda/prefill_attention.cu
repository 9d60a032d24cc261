#include "kernels/cuda/prefill_attention.h"

#include "kernels/cuda/prefill_attention_kernels.h"

namespace pleat::cuda {

void prefill_attention(cudaStream_t stream, MatrixView<const float> q, const PagedRows& rows, const KvCache& cache,
                       std::span<const int> kv_of_head, const AttentionScores& scores, MatrixView<float> out) {
  check_attention(q, rows, cache, kv_of_head, out);
  const PrefillWork work{.q = q.data,
                         .q_stride = q.stride,
                         .rows = rows,
                         .cache = blocks_of(cache),
                         .scores = scores,
                         .groups = {kv_of_head, cache.kv_heads},
                         .out = out.data,
                         .out_stride = out.stride};
  if (suits_tensor_cores(cache)) return prefill_attention_tensor(stream, cache, work);
  prefill_attention_plain(stream, cache, work);
}

}  // namespace pleat::cuda
