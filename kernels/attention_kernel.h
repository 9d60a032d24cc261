#pragma once
#include "kernels/dtype.h"
#include "kernels/vector_math.h"
#include "kernels/vector_ops.h"

namespace pleat {

// Online softmax of one row: `out` = sum of exp(score - highest) value and `total` = sum of exp(score - highest) over
// the positions so far; both are scaled down when a block raises `highest`.
struct AttentionState {
  const float* q;  // scaled, zeros after head_size
  float* out;
  float highest;
  float total;
};

// Positions of a block that a row sees: [begin, end) of [0, kPageTokens), the block's first position being `first`.
struct AttentionBlock {
  int64_t first, begin, end;
};

// The products with a block's keys become scores; those of positions the row does not see -inf.
template <class Lanes>
typename Lanes::F attention_scores(typename Lanes::F products, const AttentionBlock& block, const AttentionScores& rule,
                                   int q_head) {
  using F = typename Lanes::F;
  static constexpr float kSteps[kPageTokens] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  F scores = rule.soft_cap > 0 ? soft_cap<Lanes>(products, rule.soft_cap) : products;
  const F steps = Lanes::load(kSteps), hidden = Lanes::set1(-__builtin_inff());
  if (rule.slopes) {
    F position = Lanes::add(Lanes::set1(float(block.first)), steps);
    if (rule.bias_in_bf16) position = Lanes::round_to_bf16(position);
    F bias = Lanes::mul(Lanes::set1(rule.slopes[q_head]), position);
    if (rule.bias_in_bf16) bias = Lanes::round_to_bf16(bias);
    scores = Lanes::add(scores, Lanes::mul(bias, Lanes::set1(rule.slope_scale)));
  }
  if (block.begin > 0) scores = Lanes::select_less(steps, Lanes::set1(float(block.begin)), hidden, scores);
  return Lanes::keep_first(scores, block.end, -__builtin_inff());
}

// A block's numbers: `channels` of a key, one key after another, and a value's head_size. Scales are nullptr except of
// int8_t.
template <class Element>
struct CachedBlock {
  const Element* keys;
  const Element* values;
  const float* key_scales;
  const float* value_scales;
  int64_t channels;
  bool compacted;
  const char* next_keys;  // the following block's, fetched ahead: the processor cannot know where the next page lies
  const char* next_values;
};

// One block for R rows that all see the same of it: keys and values are read once for the R of them.
template <class Lanes, int R, class Element>
void attend_block(const CachedBlock<Element>& cached, const AttentionBlock& block, int64_t width,
                  const AttentionScores& rule, int q_head, AttentionState* rows) {
  using F = typename Lanes::F;
  const int64_t whole = width / 16 * 16, rest = width - whole;
  // A compacted key may be read past its end, where the block has more finite numbers and the query has zeros.
  const int64_t key_whole = cached.compacted ? (cached.channels + 15) / 16 * 16 : whole;
  const int64_t key_rest = cached.compacted ? 0 : rest;
  const int64_t key_bytes = cached.channels * int64_t(sizeof(Element)), value_bytes = width * int64_t(sizeof(Element));
  F products[R][kPageTokens];
  for (int64_t p = 0; p < kPageTokens; ++p) {
    F sum[R];
    for (int r = 0; r < R; ++r) sum[r] = Lanes::set1(0.0f);
    for (int64_t byte = p * key_bytes / 64 * 64; byte < (p + 1) * key_bytes; byte += 64)
      Lanes::prefetch(cached.next_keys + byte);
    for (int64_t byte = p * value_bytes / 64 * 64; byte < (p + 1) * value_bytes; byte += 64)
      Lanes::prefetch(cached.next_values + byte);
    if (p >= block.begin && p < block.end) {
      const Element* key = cached.keys + p * cached.channels;
      for (int64_t i = 0; i < key_whole; i += 16) {
        const F part = Lanes::load(key + i);
        for (int r = 0; r < R; ++r) sum[r] = Lanes::fma(Lanes::load(rows[r].q + i), part, sum[r]);
      }
      if (key_rest > 0) {
        const F part = Lanes::load_part(key + whole, key_rest);
        for (int r = 0; r < R; ++r) sum[r] = Lanes::fma(Lanes::load(rows[r].q + whole), part, sum[r]);
      }
    }
    for (int r = 0; r < R; ++r) products[r][p] = sum[r];
  }

  alignas(64) float weight[R][kPageTokens];
  F shrink[R];
  for (int r = 0; r < R; ++r) {
    AttentionState& row = rows[r];
    F sums = Lanes::sums(products[r]);
    if constexpr (sizeof(Element) == 1) sums = Lanes::mul(sums, Lanes::load(cached.key_scales));
    const F scores = attention_scores<Lanes>(sums, block, rule, q_head);
    const float block_highest = Lanes::max_lane(scores);
    const float now = block_highest > row.highest ? block_highest : row.highest;
    F weights = exp<Lanes>(Lanes::sub(scores, Lanes::set1(now)));
    shrink[r] = exp<Lanes>(Lanes::set1(row.highest - now));
    row.total = row.total * Lanes::first_lane(shrink[r]) + Lanes::sum(weights);
    row.highest = now;
    if constexpr (sizeof(Element) == 1) weights = Lanes::mul(weights, Lanes::load(cached.value_scales));
    Lanes::store(weight[r], weights);
  }

  for (int64_t i = 0; i < width; i += 16) {
    F sum[R];
    for (int r = 0; r < R; ++r) sum[r] = Lanes::mul(Lanes::load(rows[r].out + i), shrink[r]);
    const auto add = [&](int64_t p, F value) {
      for (int r = 0; r < R; ++r) sum[r] = Lanes::fma(Lanes::set1(weight[r][p]), value, sum[r]);
    };
    if (i < whole)
      for (int64_t p = block.begin; p < block.end; ++p) add(p, Lanes::load(cached.values + p * width + i));
    else
      for (int64_t p = block.begin; p < block.end; ++p) add(p, Lanes::load_part(cached.values + p * width + i, rest));
    for (int r = 0; r < R; ++r) Lanes::store(rows[r].out + i, sum[r]);
  }
}

template <class Lanes, class Element>
void attend(const AttentionTask& task) {
  using F = typename Lanes::F;
  const KvCache& cache = *task.cache;
  const int64_t width = cache.head_size, padded = attention_padding(width);
  const int64_t scale_bytes = sizeof(Element) == 1 ? kPageTokens * sizeof(float) : 0;
  const int64_t block_bytes = scale_bytes + kPageTokens * width * int64_t(sizeof(Element));
  const AttentionScores& rule = *task.scores;
  AttentionState state[kAttentionRows];
  const int64_t whole_begin = task.rows[0].whole_begin;
  const auto first_seen = [&](int r) {
    const int64_t position = task.rows[r].position;
    return rule.window > 0 && position >= rule.window ? position - rule.window + 1 : 0;
  };
  int64_t positions = 0, start_position = first_seen(0);
  for (int r = 0; r < task.count; ++r) {
    float* const q = task.work + kAttentionWork * r * padded;
    state[r] = {.q = q, .out = q + padded, .highest = -__builtin_inff(), .total = 0};
    for (int64_t i = 0; i < padded; i += 16) {
      const int64_t here = width - i < 16 ? width - i : 16;
      const F part = here > 0 ? Lanes::load_part(task.q + r * task.q_stride + i, here) : Lanes::set1(0.0f);
      Lanes::store(q + i, Lanes::mul(part, Lanes::set1(rule.scale)));
      Lanes::store(state[r].out + i, Lanes::set1(0.0f));
    }
    if (whole_begin > 0) {
      float* const kept_q = q + 2 * padded;
      const int32_t* const kept =
          cache.kept + (int64_t(task.rows[0].slot) * cache.kv_heads + task.kv_head) * cache.kept_channels;
      for (int64_t c = 0; c < cache.kept_channels; ++c) kept_q[c] = q[kept[c]];
      for (int64_t c = cache.kept_channels; c < padded; ++c) kept_q[c] = 0;
      state[r].q = kept_q;
    }
    const int64_t seen = task.rows[r].position + 1;
    positions = seen > positions ? seen : positions;
    start_position = first_seen(r) < start_position ? first_seen(r) : start_position;
  }

  for (int64_t first = start_position / kPageTokens * kPageTokens; first < positions; first += kPageTokens) {
    const int64_t page = task.rows[0].page_table[first / kPageTokens];
    const int64_t start = (page * cache.kv_heads + task.kv_head) * block_bytes;
    const char* const keys = static_cast<const char*>(cache.keys) + start;
    const char* const values = static_cast<const char*>(cache.values) + start;
    const bool compacted = first < whole_begin;
    const int64_t next_first = first + kPageTokens < positions ? first + kPageTokens : first;
    const int64_t next =
        (task.rows[0].page_table[next_first / kPageTokens] * cache.kv_heads + task.kv_head) * block_bytes;
    const CachedBlock<Element> cached = {(const Element*)(keys + scale_bytes),
                                         (const Element*)(values + scale_bytes),
                                         (const float*)keys,
                                         (const float*)values,
                                         compacted ? cache.kept_channels : width,
                                         compacted,
                                         static_cast<const char*>(cache.keys) + next,
                                         static_cast<const char*>(cache.values) + next};
    if (!compacted)
      for (int r = 0; r < task.count; ++r) state[r].q = task.work + kAttentionWork * r * padded;
    bool all = task.count == kAttentionRows;
    for (int r = 0; r < task.count; ++r)
      all = all && task.rows[r].position >= first + kPageTokens - 1 && first_seen(r) <= first;
    if (all) {
      attend_block<Lanes, kAttentionRows>(cached, {first, 0, kPageTokens}, width, rule, task.q_head, state);
      continue;
    }
    for (int r = 0; r < task.count; ++r) {
      const int64_t begin = first_seen(r) > first ? first_seen(r) - first : 0;
      const int64_t seen = task.rows[r].position + 1 - first;
      const int64_t end = seen < kPageTokens ? seen : kPageTokens;
      if (begin < end) attend_block<Lanes, 1>(cached, {first, begin, end}, width, rule, task.q_head, state + r);
    }
  }

  for (int r = 0; r < task.count; ++r) {
    const F inverse = Lanes::set1(1.0f / state[r].total);
    for (int64_t i = 0; i < width; i += 16)
      Lanes::store_part(task.out + r * task.out_stride + i, Lanes::mul(Lanes::load(state[r].out + i), inverse),
                        width - i < 16 ? width - i : 16);
  }
}

template <class Lanes>
void attention_kernel(const AttentionTask& task) {
  if (task.cache->dtype == DType::f32) return attend<Lanes, float>(task);
  if (task.cache->dtype == DType::bf16) return attend<Lanes, bf16>(task);
  attend<Lanes, int8_t>(task);
}

}  // namespace pleat
