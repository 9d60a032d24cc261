#include "kernels/cuda/prefill_attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "attention_step.h"
#include "schedule.h"

namespace pleat::cuda {
namespace {

// Prompts' chunks of two sequences, a row that nobody is in, two rows that decode, and neighbours that do not belong
// together: by their tables, by their positions, and behind a row that nobody is in.
std::vector<Token> chunks() {
  std::vector<Token> tokens;
  for (int position = 110; position < 140; ++position) tokens.push_back({0, position});
  for (int position = 0; position < 17; ++position) tokens.push_back({1, position});
  tokens.push_back({0, -1});
  for (int position = 326; position < kPositions; ++position) tokens.push_back({1, position});
  tokens.push_back({0, 140});
  tokens.push_back({1, 17});
  for (const Token& token : {Token{0, 18}, Token{0, 25}, Token{1, -1}, Token{1, 0}}) tokens.push_back(token);
  return tokens;
}

Rounding rounding_of(const Step& step) {
  const KvCache& cache = step.sequences.cache;
  if (attends_by_flash_infer(cache, step.rule)) return kInBf16;
  return cache.dtype != DType::f32 && step.head_size % 16 == 0 ? kInTwoParts : kInF32;
}

void expect_prompt(const Step& step) {
  expect_rows(step, DeviceStep(step, kPositions).run_as_prompt(step), rounding_of(step));
}

TEST(PrefillAttention, AgreesWithPlainLoopsInDoubleOverWhatIsCached) {
  const std::vector<AttentionScores> all = rules();
  size_t next_rule = 0;
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8})
    for (const int head_size : {16, 128, 5})
      for (const Heads heads : {Heads{8, 2}, Heads{7, 1}}) {
        Step step(heads, head_size, dtype, chunks());
        step.obey(all[next_rule++ % all.size()]);
        SCOPED_TRACE(concat(name_of(dtype), ", heads of ", head_size, ": ", heads.q_heads, " over ", heads.kv_heads,
                            ", rule ", (next_rule - 1) % all.size()));
        expect_prompt(step);
      }
}

TEST(PrefillAttention, TakesHeadsOfSizesThatAreFilledUp) {
  for (const DType dtype : {DType::bf16, DType::i8})
    for (const int head_size : {48, 80, 96, 112, 160, 256}) {
      SCOPED_TRACE(concat(name_of(dtype), ", heads of ", head_size));
      Step step({3, 3}, head_size, dtype, {{0, 62}, {0, 63}, {0, 64}, {0, 65}, {1, 5}});
      step.rule.window = kPositions;  // no window, but nothing for FlashInfer
      expect_prompt(step);
    }
}

// Rows [begin, end) of a step, in one of their own.
std::vector<float> run_rows(const Step& step, size_t begin, size_t end) {
  Step part({step.heads.q_heads, step.heads.kv_heads}, step.head_size, step.sequences.cache.dtype,
            {step.tokens.begin() + int64_t(begin), step.tokens.begin() + int64_t(end)});
  part.q.assign(step.q.begin() + int64_t(begin) * step.q_cols(), step.q.begin() + int64_t(end) * step.q_cols());
  part.rule = step.rule;
  return DeviceStep(part, kPositions).run_as_prompt(part);
}

TEST(PrefillAttention, HasTheSameBitsInAnyChunksUnderEveryRuleInAnyOrderOfThreads) {
  constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::i8};
  unsigned seed = 0;
  for (const AttentionScores& rule : rules())
    for (const int head_size : {16, 20}) {
      Step step({6, 2}, head_size, kDTypes[(seed + 1) % 3], chunks());
      step.obey(rule);
      const std::vector<float> whole = DeviceStep(step, kPositions).run_as_prompt(step);
      set_schedule(++seed);
      const size_t count = step.tokens.size();
      for (size_t begin = 0, end; begin < count; begin = end) {
        end = std::min(count, begin + 1 + begin % 6);
        const std::vector<float> part = run_rows(step, begin, end);
        EXPECT_TRUE(same_bits(part.data(), &whole[begin * size_t(step.q_cols())], part.size()))
            << "heads of " << head_size << ", schedule " << seed << ", rows from " << begin;
      }
      set_schedule(0);
    }
}

// FlashInfer's, where this build has it: the own kernel's otherwise.
constexpr int kFlashInferHeads[] = {64, 128, 256};

// With queries that are numbers of bf16, so that only weights are rounded.
TEST(PrefillAttention, RoundsNothingButWeightsOfQueriesInBf16) {
  for (const int head_size : kFlashInferHeads)
    for (const Heads heads : {Heads{8, 2}, Heads{7, 1}, Heads{3, 3}, Heads{5, 2}}) {
      SCOPED_TRACE(concat("heads of ", head_size, ": ", heads.q_heads, " over ", heads.kv_heads));
      Step step(heads, head_size, DType::bf16, chunks());
      for (float& q : step.q) q = rounded_to_bf16(q);
      expect_rows(step, DeviceStep(step, kPositions).run_as_prompt(step), {0, kInBf16.weight});
    }
}

TEST(PrefillAttention, HasTheSameBitsInAnyChunksOfManyRows) {
  unsigned seed = 0;
  for (const int head_size : kFlashInferHeads) {
    std::vector<Token> tokens;
    for (int position = 0; position < 150; ++position) tokens.push_back({0, position});
    const Step step({4, 2}, head_size, DType::bf16, tokens);
    const std::vector<float> whole = DeviceStep(step, kPositions).run_as_prompt(step);
    set_schedule(++seed);
    for (size_t begin = 0, end; begin < tokens.size(); begin = end) {
      end = std::min(tokens.size(), begin + 1 + begin % 61);
      const std::vector<float> part = run_rows(step, begin, end);
      EXPECT_TRUE(same_bits(part.data(), &whole[begin * size_t(step.q_cols())], part.size()))
          << "heads of " << head_size << ", rows from " << begin;
    }
    set_schedule(0);
  }
}

// As on a rank that has the end of a kv head's query heads and all of the next one's.
TEST(PrefillAttention, HasTheSameBitsForAnyOfTheHeads) {
  for (const int head_size : kFlashInferHeads) {
    const Step step({6, 2}, head_size, DType::bf16, chunks());
    const std::vector<float> whole = DeviceStep(step, kPositions).run_as_prompt(step);
    constexpr int kFirst = 2, kHeads = 4;
    Step part({kHeads, 2}, head_size, DType::bf16, chunks());
    part.kv_of_head = {0, 1, 1, 1};
    const size_t cols = size_t(step.q_cols()), width = size_t(part.q_cols()), before = size_t(kFirst * head_size);
    for (size_t row = 0; row < step.tokens.size(); ++row)
      std::copy_n(&step.q[row * cols + before], width, &part.q[row * width]);
    const std::vector<float> got = DeviceStep(part, kPositions).run_as_prompt(part);
    for (size_t row = 0; row < step.tokens.size(); ++row)
      EXPECT_TRUE(same_bits(&got[row * width], &whole[row * cols + before], width)) << "row " << row;
  }
}

TEST(PrefillAttention, ReadsRowsOfAWiderMatrixAndWritesNoOthers) {
  const Step step({4, 4}, 16, DType::bf16, chunks());
  DeviceStep device(step, kPositions);
  const std::vector<float> expected = device.run_as_prompt(step);
  const int64_t count = int64_t(step.tokens.size()), cols = step.q_cols(), stride = cols + 8;
  std::vector<float> wide(size_t(count * stride), NAN);
  for (int64_t row = 0; row < count; ++row) std::copy_n(&step.q[size_t(row * cols)], cols, &wide[size_t(row * stride)]);
  const DeviceArray<float> q(wide, device.stream), out(std::vector<float>(wide.size(), -77.0f), device.stream);
  prefill_attention(device.stream.get(), {q.data(), count, cols, stride}, device.rows.rows(), device.cache.cache,
                    step.kv_of_head, step.rule, device.work.data(), {out.data(), count, cols, stride});
  const std::vector<float> got = out.to_host(device.stream);
  for (int64_t row = 0; row < count; ++row) {
    EXPECT_TRUE(same_bits(&got[size_t(row * stride)], &expected[size_t(row * cols)], size_t(cols))) << row;
    for (int64_t column = cols; column < stride; ++column) ASSERT_EQ(got[size_t(row * stride + column)], -77.0f);
  }
}

TEST(PrefillAttention, TakesFewerRowsTogetherWhereHeadsAreLarge) {
  expect_prompt(Step({3, 1}, 512, DType::f32, {{0, 7}, {0, 8}, {0, 9}, {0, 10}, {0, 11}, {0, 12}, {0, 13}, {0, 14}}));
  const Step too_large({100, 1}, 256, DType::f32, {{0, 0}});
  DeviceStep device(too_large, kPositions);
  EXPECT_THROW(device.run_as_prompt(too_large), Error);
}

TEST(PrefillAttention, AgreesWithTheCpu) {
  Context ctx(1, false);
  for (const AttentionScores& rule : rules()) {
    Step step({8, 2}, 64, DType::bf16, chunks());
    step.obey(rule);
    std::vector<AttentionRow> rows;
    for (const Token& token : step.tokens)
      rows.push_back(step.sequences.row({token.sequence, std::max(token.position, 0)}));
    std::vector<float> cpu(step.q.size());
    attention(ctx, {step.q.data(), int64_t(rows.size()), step.q_cols()}, rows, step.sequences.cache, step.kv_of_head,
              step.rule, {cpu.data(), int64_t(rows.size()), step.q_cols()});
    const std::vector<float> got = DeviceStep(step, kPositions).run_as_prompt(step);
    for (size_t row = 0; row < rows.size(); ++row)
      for (int head = 0; step.tokens[row].position >= 0 && head < 8; ++head) {
        const std::vector<Near> exact = exact_row(step, row, head, rounding_of(step));
        for (size_t i = 0; i < exact.size(); ++i) {
          const size_t at = row * size_t(step.q_cols()) + size_t(head * 64) + i;
          ASSERT_NEAR(got[at], cpu[at], 2 * exact[i].tolerance) << "row " << row << ", head " << head;
        }
      }
  }
}

}  // namespace
}  // namespace pleat::cuda
