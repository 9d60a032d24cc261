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

// One block for R rows that all see the same of it: keys and values are read once for the R of them.
template <class Lanes, int R, class Element>
void attend_block(const Element* keys, const Element* values, const AttentionBlock& block, int64_t width,
                  const AttentionScores& rule, int q_head, AttentionState* rows) {
  using F = typename Lanes::F;
  const int64_t whole = width / 16 * 16, rest = width - whole;
  F products[R][kPageTokens];
  for (int64_t p = 0; p < kPageTokens; ++p) {
    F sum[R];
    for (int r = 0; r < R; ++r) sum[r] = Lanes::set1(0.0f);
    if (p >= block.begin && p < block.end) {
      const Element* key = keys + p * width;
      for (int64_t i = 0; i < whole; i += 16) {
        const F part = Lanes::load(key + i);
        for (int r = 0; r < R; ++r) sum[r] = Lanes::fma(Lanes::load(rows[r].q + i), part, sum[r]);
      }
      if (rest > 0) {
        const F part = Lanes::load_part(key + whole, rest);
        for (int r = 0; r < R; ++r) sum[r] = Lanes::fma(Lanes::load(rows[r].q + whole), part, sum[r]);
      }
    }
    for (int r = 0; r < R; ++r) products[r][p] = sum[r];
  }

  alignas(64) float weight[R][kPageTokens];
  F shrink[R];
  for (int r = 0; r < R; ++r) {
    AttentionState& row = rows[r];
    const F scores = attention_scores<Lanes>(Lanes::sums(products[r]), block, rule, q_head);
    const float block_highest = Lanes::max_lane(scores);
    const float now = block_highest > row.highest ? block_highest : row.highest;
    const F weights = exp<Lanes>(Lanes::sub(scores, Lanes::set1(now)));
    shrink[r] = exp<Lanes>(Lanes::set1(row.highest - now));
    Lanes::store(weight[r], weights);
    row.total = row.total * Lanes::first_lane(shrink[r]) + Lanes::sum(weights);
    row.highest = now;
  }

  for (int64_t i = 0; i < width; i += 16) {
    F sum[R];
    for (int r = 0; r < R; ++r) sum[r] = Lanes::mul(Lanes::load(rows[r].out + i), shrink[r]);
    const auto add = [&](int64_t p, F value) {
      for (int r = 0; r < R; ++r) sum[r] = Lanes::fma(Lanes::set1(weight[r][p]), value, sum[r]);
    };
    if (i < whole)
      for (int64_t p = block.begin; p < block.end; ++p) add(p, Lanes::load(values + p * width + i));
    else
      for (int64_t p = block.begin; p < block.end; ++p) add(p, Lanes::load_part(values + p * width + i, rest));
    for (int r = 0; r < R; ++r) Lanes::store(rows[r].out + i, sum[r]);
  }
}

template <class Lanes, class Element>
void attend(const AttentionTask& task) {
  using F = typename Lanes::F;
  const KvCache& cache = *task.cache;
  const int64_t width = cache.head_size, padded = attention_padding(width);
  const AttentionScores& rule = *task.scores;
  AttentionState state[kAttentionRows];
  const auto first_seen = [&](int r) {
    const int64_t position = task.rows[r].position;
    return rule.window > 0 && position >= rule.window ? position - rule.window + 1 : 0;
  };
  int64_t positions = 0, start_position = first_seen(0);
  for (int r = 0; r < task.count; ++r) {
    float* const q = task.work + 2 * r * padded;
    state[r] = {.q = q, .out = q + padded, .highest = -__builtin_inff(), .total = 0};
    for (int64_t i = 0; i < padded; i += 16) {
      const int64_t here = width - i < 16 ? width - i : 16;
      const F part = here > 0 ? Lanes::load_part(task.q + r * task.q_stride + i, here) : Lanes::set1(0.0f);
      Lanes::store(q + i, Lanes::mul(part, Lanes::set1(rule.scale)));
      Lanes::store(state[r].out + i, Lanes::set1(0.0f));
    }
    const int64_t seen = task.rows[r].position + 1;
    positions = seen > positions ? seen : positions;
    start_position = first_seen(r) < start_position ? first_seen(r) : start_position;
  }

  for (int64_t first = start_position / kPageTokens * kPageTokens; first < positions; first += kPageTokens) {
    const int64_t page = task.rows[0].page_table[first / kPageTokens];
    const int64_t start = (page * cache.kv_heads + task.kv_head) * kPageTokens * width;
    const Element* keys = static_cast<const Element*>(cache.keys) + start;
    const Element* values = static_cast<const Element*>(cache.values) + start;
    bool all = task.count == kAttentionRows;
    for (int r = 0; r < task.count; ++r)
      all = all && task.rows[r].position >= first + kPageTokens - 1 && first_seen(r) <= first;
    if (all) {
      attend_block<Lanes, kAttentionRows>(keys, values, {first, 0, kPageTokens}, width, rule, task.q_head, state);
      continue;
    }
    for (int r = 0; r < task.count; ++r) {
      const int64_t begin = first_seen(r) > first ? first_seen(r) - first : 0;
      const int64_t seen = task.rows[r].position + 1 - first;
      const int64_t end = seen < kPageTokens ? seen : kPageTokens;
      if (begin < end) attend_block<Lanes, 1>(keys, values, {first, begin, end}, width, rule, task.q_head, state + r);
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
  attend<Lanes, bf16>(task);
}

}  // namespace pleat
