// The same bits on any number of ranks, in any batch, in any chunking.
#include <gtest/gtest.h>

#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

std::vector<float> logits_of(int ranks, WeightFormat dtype, const std::vector<int32_t>& tokens, int chunk,
                             int threads = 1) {
  std::vector<float> logits;
  LoadOptions options;
  options.dtype = dtype;
  options.threads = threads;
  options.oversubscribed = true;
  with_engine(embedded_model(), ranks, options,
              [&](Engine& engine, Communicator& c) { logits = run_tokens(engine, c, tokens, chunk, false); });
  return logits;
}

TEST(Invariance, LogitsHaveTheSameBitsOnAnyNumberOfRanks) {
  const std::vector<int32_t> tokens = some_tokens(37, 1);
  for (WeightFormat dtype : {WeightFormat::bf16, WeightFormat::f32}) {
    const std::vector<float> one = logits_of(1, dtype, tokens, 64);
    for (int ranks : {2, 3, 4, 5, 7})
      EXPECT_TRUE(same_bits(one, logits_of(ranks, dtype, tokens, 64))) << ranks << " ranks";
  }
}

TEST(Invariance, CachedDecodeInAnyChunksAndThreadsEqualsOneStepBitForBit) {
  const std::vector<int32_t> tokens = some_tokens(41, 2);
  const std::vector<float> together = logits_of(1, WeightFormat::bf16, tokens, 64);
  for (int chunk : {1, 7, 16})
    EXPECT_TRUE(same_bits(together, logits_of(1, WeightFormat::bf16, tokens, chunk))) << chunk;
  EXPECT_TRUE(same_bits(together, logits_of(1, WeightFormat::bf16, tokens, 5, 3)));
}

TEST(Invariance, ALogitDoesNotDependOnTheBatch) {
  const std::vector<int32_t> tokens = some_tokens(20, 3);
  const std::vector<float> alone = logits_of(1, WeightFormat::bf16, tokens, 1);
  for (int batch : {2, 5, 16}) {
    LoadOptions options;
    with_engine(embedded_model(), 1, options, [&](Engine& engine, Communicator& c) {
      std::vector<float> mine;
      for (int position = 0; position < 20; ++position) {
        StepPlan plan;
        for (int other = 0; other < batch; ++other)
          append_rows(plan, other == batch / 2 ? tokens : some_tokens(20, 10 + other), position, position + 1, false,
                      other * 2);
        const std::vector<float> all = run_step(engine, c, plan);
        mine.insert(mine.end(), all.begin() + batch / 2 * 4096, all.begin() + (batch / 2 + 1) * 4096);
      }
      EXPECT_TRUE(same_bits(alone, mine)) << "batch " << batch;
    });
  }
}

}  // namespace
}  // namespace pleat::test
