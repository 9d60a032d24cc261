#pragma once
#include "kernels/attention_block.h"
#include "kernels/attention_tile.h"

namespace pleat {

// Online softmax of one row: `out` = sum of exp(score - highest) value and `total` = sum of exp(score - highest) over
// the positions so far; both are scaled down when a block raises `highest`.
struct AttentionState {
  const float* q;  // scaled, zeros after head_size
  float* out;
  float highest;
  float total;
};

// Adds a block's positions [begin, end) of [0, kPageTokens).
template <class Lanes, class Element>
void attend_block(const CachedBlock<Lanes, Element>& cached, int64_t first, int64_t begin, int64_t end, int64_t width,
                  const AttentionScores& rule, int q_head, AttentionState& row) {
  using F = typename Lanes::F;
  static constexpr float kSteps[kPageTokens] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const int64_t whole = width / 16 * 16, rest = width - whole;
  // A compacted key may be read past its end, where the block has more finite numbers and the query has zeros.
  const int64_t key_whole = cached.compacted ? (cached.channels + 15) / 16 * 16 : whole;
  const int64_t key_rest = cached.compacted ? 0 : rest;
  const int64_t key_bytes = cached.channels * int64_t(sizeof(Element)), value_bytes = width * int64_t(sizeof(Element));
  F sums[kPageTokens];
  for (int64_t p = 0; p < kPageTokens; ++p) {
    for (int64_t byte = p * key_bytes / 64 * 64; byte < (p + 1) * key_bytes; byte += 64)
      Lanes::prefetch(cached.next_keys + byte);
    for (int64_t byte = p * value_bytes / 64 * 64; byte < (p + 1) * value_bytes; byte += 64)
      Lanes::prefetch(cached.next_values + byte);
    F sum = Lanes::set1(0.0f);
    if (p >= begin && p < end) {
      const Element* key = cached.keys + p * cached.channels;
      for (int64_t i = 0; i < key_whole; i += 16) sum = Lanes::fma(Lanes::load(row.q + i), Lanes::load(key + i), sum);
      if (key_rest > 0) sum = Lanes::fma(Lanes::load(row.q + whole), Lanes::load_part(key + whole, key_rest), sum);
    }
    sums[p] = sum;
  }

  F products = Lanes::sums(sums);
  if constexpr (sizeof(Element) == 1) products = Lanes::mul(products, Lanes::load(cached.key_scales));
  const F steps = Lanes::load(kSteps), hidden = Lanes::set1(-__builtin_inff());
  F scores = attention_scores<Lanes>(products, Lanes::add(Lanes::set1(float(first)), steps), rule, q_head);
  if (begin > 0) scores = Lanes::select_less(steps, Lanes::set1(float(begin)), hidden, scores);
  scores = Lanes::keep_first(scores, end, -__builtin_inff());
  const float block_highest = Lanes::max_lane(scores);
  const float now = block_highest > row.highest ? block_highest : row.highest;
  F weights = exp<Lanes>(Lanes::sub(scores, Lanes::set1(now)));
  const F shrink = exp<Lanes>(Lanes::set1(row.highest - now));
  row.total = row.total * Lanes::first_lane(shrink) + Lanes::sum(weights);
  row.highest = now;
  if constexpr (sizeof(Element) == 1) weights = Lanes::mul(weights, Lanes::load(cached.value_scales));
  alignas(64) float weight[kPageTokens];
  Lanes::store(weight, weights);

  for (int64_t i = 0; i < width; i += 16) {
    F sum = Lanes::mul(Lanes::load(row.out + i), shrink);
    for (int64_t p = begin; p < end; ++p) {
      const Element* const value = cached.values + p * width + i;
      sum = Lanes::fma(Lanes::set1(weight[p]), i < whole ? Lanes::load(value) : Lanes::load_part(value, rest), sum);
    }
    Lanes::store(row.out + i, sum);
  }
}

template <class Lanes, class Element>
void attend_row(const AttentionTask& task) {
  using F = typename Lanes::F;
  const KvCache& cache = *task.cache;
  const int64_t width = cache.head_size, padded = attention_padding(width);
  float *const q = task.work, *const kept_q = q + padded, *const out = kept_q + padded;
  for (int64_t i = 0; i < padded; i += 16) {
    const int64_t here = width - i < 16 ? width - i : 16;
    const F part = here > 0 ? Lanes::load_part(task.q + i, here) : Lanes::set1(0.0f);
    Lanes::store(q + i, Lanes::mul(part, Lanes::set1(task.scores->scale)));
    Lanes::store(out + i, Lanes::set1(0.0f));
  }
  if (task.rows[0].whole_begin > 0) {
    const int32_t* const kept = kept_channels<Lanes>(task);
    for (int64_t c = 0; c < padded; ++c) kept_q[c] = c < cache.kept_channels ? q[kept[c]] : 0;
  }

  AttentionState state{.q = q, .out = out, .highest = -__builtin_inff(), .total = 0};
  const SeenPositions<Lanes> seen(task, 0);
  for (int64_t first = seen.begin / kPageTokens * kPageTokens; first < seen.end; first += kPageTokens) {
    const CachedBlock<Lanes, Element> cached(task, first, seen.end);
    state.q = cached.compacted ? kept_q : q;
    attend_block(cached, first, seen.begin > first ? seen.begin - first : 0,
                 seen.end - first < kPageTokens ? seen.end - first : kPageTokens, width, *task.scores, task.q_head,
                 state);
  }

  const F inverse = Lanes::set1(1.0f / state.total);
  for (int64_t i = 0; i < width; i += 16)
    Lanes::store_part(task.out + i, Lanes::mul(Lanes::load(out + i), inverse), width - i < 16 ? width - i : 16);
}

template <class Lanes, class Element>
void attend(const AttentionTask& task) {
  if (task.count == 1) return attend_row<Lanes, Element>(task);
  attend_tiles<Lanes, Element>(task);
}

template <class Lanes>
void attention_kernel(const AttentionTask& task) {
  if (task.cache->dtype == DType::f32) return attend<Lanes, float>(task);
  if (task.cache->dtype == DType::bf16) return attend<Lanes, bf16>(task);
  attend<Lanes, int8_t>(task);
}

}  // namespace pleat
