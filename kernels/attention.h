#pragma once
// Causal attention over a paged key-value cache. One row is one token of one sequence.
#include <cstdint>
#include <span>

#include "kernels/kv_cache.h"

namespace pleat {

// The score of a query at position p and the key at position j <= p, from their product s:
//   s * scale, soft-capped (cap tanh(s / cap), Gemma 2), plus the head's ALiBi bias (arXiv 2108.12409); none where
//   p - j >= window.
struct AttentionScores {
  float scale = 1;
  float soft_cap = 0;             // 0: none
  int64_t window = 0;             // 0: all positions
  const float* slopes = nullptr;  // [q_heads] ALiBi: bias = slope_scale * slope * j; nullptr: none
  float slope_scale = 1;
  bool bias_in_bf16 = false;  // slope, j and their product rounded to bf16 (Falcon)
};

// out[row, head] = softmax(scores) values over the row's positions; query head h reads kv head kv_of_head[h].
//   q, out [rows, q_heads * head_size] f32.   Order of additions depends on the row's position alone, not on other
//   rows, on chunking or on threads: fixed blocks of kPageTokens positions, online softmax, f32 accumulators. Of
//   compacted keys only the kept channels count; rows that stand together with one page table have one whole_begin.
void attention(Context& ctx, MatrixView<const float> q, std::span<const AttentionRow> rows, const KvCache& cache,
               std::span<const int> kv_of_head, const AttentionScores& scores, MatrixView<float> out);

}  // namespace pleat
