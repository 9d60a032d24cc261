#pragma once
// What one row's attention (attention_kernel.h) and a prompt's (attention_tile.h) have in common.
#include "kernels/dtype.h"
#include "kernels/vector_math.h"
#include "kernels/vector_ops.h"

namespace pleat {

// Positions [begin, end) that a row sees.
template <class Lanes>
struct SeenPositions {
  int64_t begin, end;

  SeenPositions(const AttentionTask& task, int row)
      : begin(task.rows[row].position - task.scores->window + 1), end(task.rows[row].position + 1) {
    if (task.scores->window == 0 || begin < 0) begin = 0;
  }
};

// A block's numbers: `channels` of a key, one key after another, and a value's head_size. Scales are of int8_t only.
template <class Lanes, class Element>
struct CachedBlock {
  const Element* keys;
  const Element* values;
  const float* key_scales;
  const float* value_scales;
  int64_t channels;
  bool compacted;
  const char* next_keys;  // the following block's, fetched ahead: the processor cannot know where the next page lies
  const char* next_values;

  // The block of positions from `first` on of the task's head, and of the one after it if that begins before `end`.
  CachedBlock(const AttentionTask& task, int64_t first, int64_t end) {
    const KvCache& cache = *task.cache;
    const int64_t scale_bytes = sizeof(Element) == 1 ? kPageTokens * int64_t(sizeof(float)) : 0;
    const int64_t block_bytes = scale_bytes + kPageTokens * cache.head_size * int64_t(sizeof(Element));
    const int64_t page_bytes = cache.kv_heads * block_bytes + cache.gap;
    const int32_t* const pages = task.rows[0].page_table;
    const auto start = [&](int64_t position) {
      return pages[position / kPageTokens] * page_bytes + task.kv_head * block_bytes;
    };
    const int64_t here = start(first), next = start(first + kPageTokens < end ? first + kPageTokens : first);
    key_scales = (const float*)(static_cast<const char*>(cache.keys) + here);
    value_scales = (const float*)(static_cast<const char*>(cache.values) + here);
    keys = (const Element*)((const char*)key_scales + scale_bytes);
    values = (const Element*)((const char*)value_scales + scale_bytes);
    compacted = first < task.rows[0].whole_begin;
    channels = compacted ? cache.kept_channels : cache.head_size;
    next_keys = static_cast<const char*>(cache.keys) + next;
    next_values = static_cast<const char*>(cache.values) + next;
  }
};

// Products of queries, scaled, and keys at `positions` become scores; whether they are seen is not asked.
template <class Lanes>
typename Lanes::F attention_scores(typename Lanes::F products, typename Lanes::F positions, const AttentionScores& rule,
                                   int q_head) {
  using F = typename Lanes::F;
  F scores = rule.soft_cap > 0 ? soft_cap<Lanes>(products, rule.soft_cap) : products;
  if (!rule.slopes) return scores;
  if (rule.bias_in_bf16) positions = Lanes::round_to_bf16(positions);
  F bias = Lanes::mul(Lanes::set1(rule.slopes[q_head]), positions);
  if (rule.bias_in_bf16) bias = Lanes::round_to_bf16(bias);
  return Lanes::add(scores, Lanes::mul(bias, Lanes::set1(rule.slope_scale)));
}

// The kept channels of the task's sequence (task.rows[0].slot), where keys are compacted.
template <class Lanes>
const int32_t* kept_channels(const AttentionTask& task) {
  const KvCache& cache = *task.cache;
  return cache.kept + (int64_t(task.rows[0].slot) * cache.kv_heads + task.kv_head) * cache.kept_channels;
}

}  // namespace pleat
