#include "kernels/cuda/prefill_attention.h"

#include "kernels/cuda/prefill_attention_kernels.h"

namespace pleat::cuda {

size_t prefill_attention_work(int rows, int q_heads, int head_size) {
  return flash_infer_work(rows, q_heads, head_size);
}

void prefill_attention(cudaStream_t stream, MatrixView<const float> q, const PagedRows& rows, const KvCache& cache,
                       std::span<const int> kv_of_head, const AttentionScores& scores, float* memory,
                       MatrixView<float> out) {
  check_attention(q, rows, cache, kv_of_head, out);
  const PrefillWork work{.q = q.data,
                         .q_stride = q.stride,
                         .rows = rows,
                         .cache = blocks_of(cache),
                         .scores = scores,
                         .groups = {kv_of_head, cache.kv_heads},
                         .memory = memory,
                         .out = out.data,
                         .out_stride = out.stride};
  if (attends_by_flash_infer(cache, scores)) return prefill_attention_flash_infer(stream, work, int(kv_of_head.size()));
  if (suits_tensor_cores(cache)) return prefill_attention_tensor(stream, cache, work);
  prefill_attention_plain(stream, cache, work);
}

}  // namespace pleat::cuda
