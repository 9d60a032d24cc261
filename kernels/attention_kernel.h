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

// One block of `count` positions for R rows that all see it: keys and values are read once for the R of them.
template <class Lanes, int R, class Element>
void attend_block(const Element* keys, const Element* values, int64_t count, int64_t width, AttentionState* rows) {
  using F = typename Lanes::F;
  const int64_t whole = width / 16 * 16, rest = width - whole;
  F products[R][kPageTokens];
  for (int64_t p = 0; p < kPageTokens; ++p) {
    F sum[R];
    for (int r = 0; r < R; ++r) sum[r] = Lanes::set1(0.0f);
    if (p < count) {
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
    const F scores = Lanes::keep_first(Lanes::sums(products[r]), count, -__builtin_inff());
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
      for (int64_t p = 0; p < count; ++p) add(p, Lanes::load(values + p * width + i));
    else
      for (int64_t p = 0; p < count; ++p) add(p, Lanes::load_part(values + p * width + i, rest));
    for (int r = 0; r < R; ++r) Lanes::store(rows[r].out + i, sum[r]);
  }
}

template <class Lanes, class Element>
void attend(const AttentionTask& task) {
  using F = typename Lanes::F;
  const KvCache& cache = *task.cache;
  const int64_t width = cache.head_size, padded = attention_padding(width);
  AttentionState state[kAttentionRows];
  int64_t positions = 0;
  for (int r = 0; r < task.count; ++r) {
    float* const q = task.work + 2 * r * padded;
    state[r] = {.q = q, .out = q + padded, .highest = -__builtin_inff(), .total = 0};
    for (int64_t i = 0; i < padded; i += 16) {
      const int64_t here = width - i < 16 ? width - i : 16;
      const F part = here > 0 ? Lanes::load_part(task.q + r * task.q_stride + i, here) : Lanes::set1(0.0f);
      Lanes::store(q + i, Lanes::mul(part, Lanes::set1(task.scale)));
      Lanes::store(state[r].out + i, Lanes::set1(0.0f));
    }
    const int64_t seen = task.rows[r].position + 1;
    positions = seen > positions ? seen : positions;
  }

  for (int64_t first = 0; first < positions; first += kPageTokens) {
    const int64_t page = task.rows[0].page_table[first / kPageTokens];
    const int64_t start = (page * cache.kv_heads + task.kv_head) * kPageTokens * width;
    const Element* keys = static_cast<const Element*>(cache.keys) + start;
    const Element* values = static_cast<const Element*>(cache.values) + start;
    bool all = task.count == kAttentionRows;
    for (int r = 0; r < task.count; ++r) all = all && task.rows[r].position >= first + kPageTokens - 1;
    if (all) {
      attend_block<Lanes, kAttentionRows>(keys, values, kPageTokens, width, state);
      continue;
    }
    for (int r = 0; r < task.count; ++r) {
      const int64_t seen = task.rows[r].position + 1 - first;
      if (seen > 0) attend_block<Lanes, 1>(keys, values, seen < kPageTokens ? seen : kPageTokens, width, state + r);
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
