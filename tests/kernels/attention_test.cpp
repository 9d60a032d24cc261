#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "vectors.h"

namespace pleat {
namespace {

// One sequence with its cache, filled through append_kv.
struct Sequence {
  Sequence(int64_t tokens, int q_heads, int kv_heads, int head_size, DType dtype)
      : tokens(tokens),
        width(head_size),
        q(random_floats(size_t(tokens * q_heads * head_size), 1)),
        k(random_floats(size_t(tokens * kv_heads * head_size), 2)),
        v(random_floats(size_t(tokens * kv_heads * head_size), 3)) {
    const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens + 2;
    memory.assign(size_t(2 * pages * kv_heads * kPageTokens * head_size), NAN);
    cache = {memory.data(), memory.data() + memory.size() / 2, dtype, pages, kv_heads, head_size};
    for (int64_t page = 0; page < pages; ++page) page_table.push_back(int32_t(page));
    for (int head = 0; head < q_heads; ++head) kv_of_head.push_back(head * kv_heads / q_heads);
    for (int64_t position = 0; position < tokens; ++position) rows.push_back({position, page_table.data()});
    scores.scale = 1.0f / std::sqrt(float(width));
  }

  int64_t q_cols() const { return int64_t(kv_of_head.size()) * width; }

  // Appends and attends the tokens in steps of `chunk`.
  std::vector<float> run(Context& ctx, int64_t chunk) {
    std::fill(memory.begin(), memory.end(), NAN);
    std::vector<float> out(q.size());
    const int64_t kv_cols = cache.kv_heads * width;
    for (int64_t begin = 0; begin < tokens; begin += chunk) {
      const int64_t count = std::min(chunk, tokens - begin);
      const std::span<const AttentionRow> step(rows.data() + begin, size_t(count));
      append_kv(ctx, {k.data() + begin * kv_cols, count, kv_cols}, {v.data() + begin * kv_cols, count, kv_cols}, step,
                cache);
      attention(ctx, {q.data() + begin * q_cols(), count, q_cols()}, step, cache, kv_of_head, scores,
                {out.data() + begin * q_cols(), count, q_cols()});
    }
    return out;
  }

  int64_t tokens, width;
  std::vector<float> q, k, v, memory;
  KvCache cache;
  std::vector<int32_t> page_table;
  std::vector<int> kv_of_head;
  std::vector<AttentionRow> rows;
  AttentionScores scores;
};

struct Shape {
  int q_heads, kv_heads, head_size;
};

constexpr float kSlopes[] = {0.3f, 0.07f, 0.9f, 0.2f};

// Plain, with a sliding window, soft-capped, with ALiBi in f32 and in bf16, and all of them.
std::vector<AttentionScores> rules() {
  std::vector<AttentionScores> rules(6);
  rules[1].window = 11;
  rules[2].soft_cap = 1.5f;
  rules[3].slopes = rules[4].slopes = rules[5].slopes = kSlopes;
  rules[4].slope_scale = rules[5].slope_scale = 0.25f;
  rules[4].bias_in_bf16 = rules[5].bias_in_bf16 = true;
  rules[5].window = 17;
  rules[5].soft_cap = 0.8f;
  return rules;
}

double score(double product, const AttentionScores& rule, int head, int64_t position) {
  double score = product * rule.scale;
  if (rule.soft_cap > 0) score = rule.soft_cap * std::tanh(score / rule.soft_cap);
  if (rule.slopes) {
    float bias = rule.slopes[head] * (rule.bias_in_bf16 ? rounded_to_bf16(float(position)) : float(position));
    if (rule.bias_in_bf16) bias = rounded_to_bf16(bias);
    score += double(bias) * rule.slope_scale;
  }
  return score;
}

TEST(Attention, AgreesWithPlainLoopsInDouble) {
  for (Isa isa : isas_here())
    for (DType dtype : {DType::f32, DType::bf16})
      for (Shape shape : {Shape{2, 2, 16}, Shape{3, 1, 64}, Shape{4, 2, 80}, Shape{2, 1, 20}, Shape{1, 1, 5}}) {
        const int64_t tokens = 53, width = shape.head_size;
        for (AttentionScores rule : rules()) {
          Sequence sequence(tokens, shape.q_heads, shape.kv_heads, shape.head_size, dtype);
          rule.scale = sequence.scores.scale;
          sequence.scores = rule;
          Context ctx(2, true, isa);
          const std::vector<float> out = sequence.run(ctx, tokens);
          const auto cached = [&](float value) {
            return double(dtype == DType::bf16 ? rounded_to_bf16(value) : value);
          };
          for (int64_t row = 0; row < tokens; ++row)
            for (int head = 0; head < shape.q_heads; ++head) {
              const float* q = sequence.q.data() + row * sequence.q_cols() + head * width;
              const auto at = [&](int64_t position, int64_t i) {
                return (position * shape.kv_heads + sequence.kv_of_head[head]) * width + i;
              };
              std::vector<double> weight;
              const int64_t first = rule.window > 0 ? std::max<int64_t>(0, row - rule.window + 1) : 0;
              for (int64_t position = first; position <= row; ++position) {
                double sum = 0;
                for (int64_t i = 0; i < width; ++i) sum += q[i] * cached(sequence.k[at(position, i)]);
                weight.push_back(score(sum, rule, head, position));
              }
              const double highest = *std::max_element(weight.begin(), weight.end());
              double total = 0;
              for (double& w : weight) total += w = std::exp(w - highest);
              for (int64_t i = 0; i < width; ++i) {
                double expected = 0;
                for (int64_t position = first; position <= row; ++position)
                  expected += weight[position - first] / total * cached(sequence.v[at(position, i)]);
                // scores and the weighted mean: f32 roundings of numbers of order 4, at most 2 * (width + positions) of
                // them
                ASSERT_NEAR(out[row * sequence.q_cols() + head * width + i], expected, 1e-5)
                    << name_of(isa) << ", head size " << width << ", row " << row;
              }
            }
        }
      }
}

TEST(Attention, GivesTheSameBitsInChunksOfAnySizeOnAnyThreadsAndInstructionSet) {
  for (DType dtype : {DType::f32, DType::bf16})
    for (int head_size : {20, 64}) {
      for (AttentionScores rule : rules()) {
        Sequence sequence(70, 2, 1, head_size, dtype);
        rule.scale = sequence.scores.scale;
        sequence.scores = rule;
        Context plain(1, false, Isa::portable);
        const std::vector<float> reference = sequence.run(plain, 1);
        for (Isa isa : isas_here())
          for (int threads : {1, 3}) {
            Context ctx(threads, true, isa);
            for (int64_t chunk : {1, 7, 16, 33, 70})
              EXPECT_TRUE(same_bits(sequence.run(ctx, chunk), reference)) << name_of(isa) << ", chunks of " << chunk;
          }
      }
    }
}

TEST(Attention, DoesNotDependOnWherePagesLie) {
  Sequence sequence(90, 2, 2, 64, DType::bf16);
  Context ctx(1, false);
  const std::vector<float> reference = sequence.run(ctx, 90);
  std::shuffle(sequence.page_table.begin(), sequence.page_table.end(), std::mt19937(5));
  EXPECT_TRUE(same_bits(sequence.run(ctx, 90), reference));
}

TEST(Attention, StaysFiniteWhenScoresAreHuge) {
  Sequence sequence(40, 1, 1, 16, DType::f32);
  for (float& value : sequence.q) value *= 1e4f;
  for (Isa isa : isas_here()) {
    Context ctx(1, false, isa);
    for (float value : sequence.run(ctx, 40)) ASSERT_TRUE(std::isfinite(value));
  }
}

}  // namespace
}  // namespace pleat
