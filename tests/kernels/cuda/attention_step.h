#pragma once
// What the tests of attention share: steps over sequences full of random tokens, and what plain loops make of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "../vectors.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/prefill_attention.h"
#include "paged_sequences.h"

namespace pleat::cuda {
struct Heads {
  int q_heads, kv_heads;
};

constexpr int kPositions = 334;
inline constexpr float kSlopes[] = {0.3f, 0.07f, 0.9f, 0.2f, 0.01f, 0.03f, 0.11f, 0.5f, 0.4f, 0.02f, 0.6f};

// Sequences full of random tokens, and queries for the rows of a step.
struct Step {
  Step(Heads heads, int head_size, DType dtype, std::vector<Token> tokens)
      : heads(heads),
        head_size(head_size),
        tokens(std::move(tokens)),
        sequences(2, kPositions, heads.kv_heads, head_size, dtype),
        q(random_floats(this->tokens.size() * size_t(q_cols()), 1)),
        k(random_floats(size_t(2 * kPositions * kv_cols()), 2)),
        v(random_floats(size_t(2 * kPositions * kv_cols()), 3)) {
    std::vector<AttentionRow> rows;
    for (int i = 0; i < 2 * kPositions; ++i) rows.push_back(sequences.row({i / kPositions, i % kPositions}));
    Context ctx(1, false);
    append_kv(ctx, {k.data(), 2 * kPositions, kv_cols()}, {v.data(), 2 * kPositions, kv_cols()}, rows, sequences.cache);
    for (int head = 0; head < heads.q_heads; ++head) kv_of_head.push_back(head * heads.kv_heads / heads.q_heads);
    rule.scale = 1.0f / std::sqrt(float(head_size));
  }

  int64_t q_cols() const { return int64_t(heads.q_heads) * head_size; }
  int64_t kv_cols() const { return int64_t(heads.kv_heads) * head_size; }

  // With the scale that head_size asks for.
  void obey(AttentionScores other) {
    other.scale = rule.scale;
    rule = other;
  }

  // A number of the cache.
  double cached(const std::vector<std::byte>& bytes, Token token, int kv_head, int channel) const {
    const AttentionRow row = sequences.row(token);
    const int place = token.position % kPageTokens;
    const std::byte* const block =
        bytes.data() + sequences.cache.block(row.page_table[token.position / kPageTokens], kv_head);
    const std::byte* const numbers = block + sequences.cache.scale_bytes();
    const int i = place * head_size + channel;
    if (sequences.cache.dtype == DType::f32) return reinterpret_cast<const float*>(numbers)[i];
    if (sequences.cache.dtype == DType::bf16) return to_f32(reinterpret_cast<const bf16*>(numbers)[i]);
    return double(reinterpret_cast<const float*>(block)[place]) * reinterpret_cast<const int8_t*>(numbers)[i];
  }

  Heads heads;
  int head_size;
  std::vector<Token> tokens;
  PagedSequences sequences;
  std::vector<float> q, k, v;
  std::vector<int> kv_of_head;
  AttentionScores rule;  // its slopes are on the host
};

// A step on a device.
struct DeviceStep {
  DeviceStep(const Step& step, int max_positions)
      : max_positions(max_positions),
        cache(step.sequences, stream),
        rows(step.sequences, step.tokens, stream),
        q(step.q, stream),
        slopes(kSlopes, stream),
        out(std::vector<float>(step.q.size(), -77.0f), stream),
        work(std::max(attention_work(int(step.tokens.size()), step.heads.q_heads, step.head_size, max_positions),
                      prefill_attention_work(int(step.tokens.size()), step.heads.q_heads, step.head_size))) {}

  AttentionScores on_device(AttentionScores rule) const {
    if (rule.slopes != nullptr) rule.slopes = slopes.data();
    return rule;
  }
  void enqueue(const Step& step) {
    const int64_t count = int64_t(step.tokens.size());
    attention(stream.get(), {q.data(), count, step.q_cols()}, rows.rows(), cache.cache, step.kv_of_head,
              on_device(step.rule), max_positions, work.data(), {out.data(), count, step.q_cols()});
  }
  std::vector<float> run(const Step& step) {
    enqueue(step);
    return out.to_host(stream);
  }
  std::vector<float> run_as_prompt(const Step& step) {
    const int64_t count = int64_t(step.tokens.size());
    prefill_attention(stream.get(), {q.data(), count, step.q_cols()}, rows.rows(), cache.cache, step.kv_of_head,
                      on_device(step.rule), work.data(), {out.data(), count, step.q_cols()});
    return out.to_host(stream);
  }

  Stream stream;
  int max_positions;
  DeviceCache cache;
  SequenceRows rows;
  DeviceArray<float> q, slopes, out, work;
};

// Plain, with sliding windows (that end in a page and are longer than a split), soft-capped, with ALiBi in f32 and in
// bf16, and all of them.
inline std::vector<AttentionScores> rules() {
  std::vector<AttentionScores> rules(7);
  rules[1].window = 11;
  rules[2].window = 150;
  rules[3].soft_cap = 1.5f;
  rules[4].slopes = rules[5].slopes = rules[6].slopes = kSlopes;
  rules[5].slope_scale = rules[6].slope_scale = 0.25f;
  rules[5].bias_in_bf16 = rules[6].bias_in_bf16 = true;
  rules[6].window = 170;
  rules[6].soft_cap = 0.8f;
  return rules;
}

inline double bias_of(const AttentionScores& rule, int head, int position) {
  if (rule.slopes == nullptr) return 0;
  if (!rule.bias_in_bf16) return double(rule.slopes[head]) * position * rule.slope_scale;
  return double(rounded_to_bf16(rule.slopes[head] * rounded_to_bf16(float(position)))) * rule.slope_scale;
}

// A number and how far a kernel's may be from it.
struct Near {
  double value, tolerance;
};

// What a query and a weight are off by, of themselves, in units of 2^-24.
struct Rounding {
  double query = 0, weight = 0;
  bool on_tensor_cores() const { return weight > 0; }
};
constexpr Rounding kInF32, kInTwoParts{256, 256}, kInBf16{1 << 15, 1 << 15};

// A row and head [head_size] by plain loops in double over what is cached.
//
// Tolerance, u = 2^-24: the n positions' weights w sum up to 1 or more, the highest being 1.
//   A score is off by at most `off`: a product's head_size + 2 roundings of numbers no larger than the sum of its
//   terms' magnitudes, 6 of the soft cap (tanhf: 2 units in the last place), 4 of the score and its bias.
//   __expf(-x) is off by 2 + 1.2 x units in the last place and its argument by x u, in all by at most 4 u.
//   The sums of w and w v are off by n u of them, and what they were by 8 u whenever a tile or a split scales them
//   down. Each counts twice: above and below the fraction.
// On tensor cores a query and a weight are off by their rounding more, and a sum is rounded towards 0, by 2 u a term.
inline std::vector<Near> exact_row(const Step& step, size_t row, int head, Rounding rounding = kInF32) {
  const double of_term = rounding.on_tensor_cores() ? 2 : 1;
  const Token token = step.tokens[row];
  const int kv_head = step.kv_of_head[size_t(head)], head_size = step.head_size;
  const AttentionScores& rule = step.rule;
  const float* const q = step.q.data() + int64_t(row) * step.q_cols() + int64_t(head) * head_size;
  const int first = rule.window > 0 ? std::max(0, token.position - int(rule.window) + 1) : 0;
  std::vector<double> weights;
  double off = 0;
  for (int position = first; position <= token.position; ++position) {
    double score = 0, magnitudes = 0;
    for (int i = 0; i < head_size; ++i) {
      const double term =
          double(q[i]) * rule.scale * step.cached(step.sequences.keys, {token.sequence, position}, kv_head, i);
      score += term;
      magnitudes += std::abs(term);
    }
    if (rule.soft_cap > 0) score = rule.soft_cap * std::tanh(score / rule.soft_cap);
    const double bias = bias_of(rule, head, position);
    off = std::max(off, (rounding.query + of_term * head_size + 2) * magnitudes + 6 * rule.soft_cap +
                            4 * (std::abs(score) + std::abs(bias)));
    weights.push_back(score + bias);
  }
  const double highest = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& weight : weights) total += weight = std::exp(weight - highest);
  const double n = double(weights.size());
  std::vector<Near> out;
  for (int i = 0; i < head_size; ++i) {
    double expected = 0, largest = 0;
    for (int position = first; position <= token.position; ++position) {
      const double value = step.cached(step.sequences.values, {token.sequence, position}, kv_head, i);
      expected += weights[size_t(position - first)] / total * value;
      largest = std::max(largest, std::abs(value));
    }
    out.push_back(
        {expected,
         2 * largest * (2 * off + rounding.weight + (4 + of_term) * n + 8 * (n / 32 + n / 128 + 4)) * 0x1p-24});
  }
  return out;
}

inline void expect_rows(const Step& step, const std::vector<float>& out, Rounding rounding = kInF32) {
  for (size_t row = 0; row < step.tokens.size(); ++row)
    for (int head = 0; head < step.heads.q_heads; ++head) {
      const float* const at = out.data() + int64_t(row) * step.q_cols() + int64_t(head) * step.head_size;
      if (step.tokens[row].position < 0) {
        for (int i = 0; i < step.head_size; ++i) ASSERT_EQ(at[i], -77.0f) << "nobody's row is written";
        continue;
      }
      const std::vector<Near> exact = exact_row(step, row, head, rounding);
      for (size_t i = 0; i < exact.size(); ++i)
        ASSERT_NEAR(at[i], exact[i].value, exact[i].tolerance)
            << "position " << step.tokens[row].position << ", head " << head << ", channel " << i;
    }
}

}  // namespace pleat::cuda
