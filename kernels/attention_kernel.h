#pragma once
#include "kernels/dtype.h"
#include "kernels/vector_math.h"
#include "kernels/vector_ops.h"

namespace pleat {

// Online softmax: after each block of positions, `out` = sum of exp(score - max) value and `total` = sum of exp(score -
// max) over the positions so far; both are scaled down when a block raises the maximum.
template <class Lanes, class Element>
void attend(const AttentionTask& task) {
  using F = typename Lanes::F;
  const KvCache& cache = *task.cache;
  const int64_t width = cache.head_size, whole = width / 16 * 16, rest = width - whole;
  const int64_t block = int64_t(kPageTokens) * width;
  float* const q = task.work;
  float* const out = task.work + whole + 16;
  for (int64_t i = 0; i < whole + 16; i += 16) {
    const F part = Lanes::load_part(task.q + (i < whole ? i : whole), i < whole ? 16 : rest);
    Lanes::store(q + i, Lanes::mul(part, Lanes::set1(task.scale)));
    Lanes::store(out + i, Lanes::set1(0.0f));
  }

  float highest = -__builtin_inff(), total = 0;
  const int64_t positions = task.row->position + 1;
  for (int64_t first = 0; first < positions; first += kPageTokens) {
    const int64_t page = task.row->page_table[first / kPageTokens];
    const int64_t start = (page * cache.kv_heads + task.kv_head) * block;
    const Element* keys = static_cast<const Element*>(cache.keys) + start;
    const Element* values = static_cast<const Element*>(cache.values) + start;
    const int64_t count = positions - first < kPageTokens ? positions - first : kPageTokens;

    alignas(64) float weight[kPageTokens] = {};
    for (int64_t p = 0; p < count; ++p) {
      const Element* key = keys + p * width;
      F sum = Lanes::set1(0.0f);
      for (int64_t i = 0; i < whole; i += 16) sum = Lanes::fma(Lanes::load(q + i), Lanes::load(key + i), sum);
      if (rest) sum = Lanes::fma(Lanes::load(q + whole), Lanes::load_part(key + whole, rest), sum);
      weight[p] = Lanes::sum(sum);
    }
    const F scores = Lanes::keep_first(Lanes::load(weight), count, -__builtin_inff());
    const float block_highest = Lanes::max_lane(scores);
    const float now = block_highest > highest ? block_highest : highest;
    const F weights = exp<Lanes>(Lanes::sub(scores, Lanes::set1(now)));
    const F shrink = exp<Lanes>(Lanes::set1(highest - now));
    Lanes::store(weight, weights);
    alignas(64) float factor[16];
    Lanes::store(factor, shrink);
    total = total * factor[0] + Lanes::sum(weights);
    highest = now;

    for (int64_t i = 0; i < width; i += 16) {
      F sum = Lanes::mul(Lanes::load(out + i), shrink);
      for (int64_t p = 0; p < count; ++p) {
        const Element* value = values + p * width + i;
        sum = Lanes::fma(Lanes::set1(weight[p]), i < whole ? Lanes::load(value) : Lanes::load_part(value, rest), sum);
      }
      Lanes::store(out + i, sum);
    }
  }

  const F inverse = Lanes::set1(1.0f / total);
  for (int64_t i = 0; i < width; i += 16)
    Lanes::store_part(task.out + i, Lanes::mul(Lanes::load(out + i), inverse), i < whole ? 16 : rest);
}

template <class Lanes>
void attention_kernel(const AttentionTask& task) {
  if (task.cache->dtype == DType::f32) return attend<Lanes, float>(task);
  attend<Lanes, bf16>(task);
}

}  // namespace pleat
