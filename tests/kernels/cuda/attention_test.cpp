#include "kernels/cuda/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "attention_step.h"
#include "schedule.h"

namespace pleat::cuda {
namespace {

TEST(CudaAttention, AgreesWithPlainLoopsInDoubleOverWhatIsCached) {
  const std::vector<AttentionScores> all = rules();
  size_t next_rule = 0;
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8})
    for (const int head_size : {16, 64, 80, 128, 100, 5, 256})
      for (const Heads heads : {Heads{1, 1}, Heads{8, 2}, Heads{11, 1}, Heads{4, 4}}) {
        Step step(heads, head_size, dtype, {{0, 0}, {1, 15}, {0, 16}, {0, -1}, {1, 63}, {1, 64}, {0, 333}});
        step.obey(all[next_rule++ % all.size()]);
        SCOPED_TRACE(concat(name_of(dtype), ", heads of ", head_size, ": ", heads.q_heads, " over ", heads.kv_heads,
                            ", rule ", (next_rule - 1) % all.size()));
        const bool on_tensor_cores = dtype != DType::f32 && (head_size == 64 || head_size == 128);
        expect_rows(step, DeviceStep(step, kPositions).run(step), on_tensor_cores ? kInTwoParts : kInF32);
      }
}

TEST(CudaAttention, ObeysEveryRule) {
  for (const int head_size : {20, 64})
    for (const AttentionScores& rule : rules()) {
      Step step({8, 2}, head_size, DType::bf16, {{0, 9}, {1, 200}, {1, 201}, {0, 333}});
      step.obey(rule);
      expect_rows(step, DeviceStep(step, kPositions).run(step), head_size == 64 ? kInTwoParts : kInF32);
    }
}

TEST(CudaAttention, ARowHasTheSameBitsAloneAndAmongOthersInAnyOrderOfThreads) {
  for (const DType dtype : {DType::bf16, DType::i8})
    for (const int64_t window : {0, 150}) {
      Step alone({7, 1}, 80, dtype, {{0, 333}}), among({7, 1}, 80, dtype, {{1, 15}, {0, -1}, {0, 332}, {0, 333}});
      alone.rule.window = among.rule.window = window;
      const int64_t cols = alone.q_cols();
      std::copy_n(alone.q.begin(), cols, among.q.begin() + 3 * cols);
      const std::vector<float> reference = DeviceStep(alone, kPositions).run(alone);
      for (const unsigned seed : {0u, 1u, 2u, 3u}) {
        set_schedule(seed);
        const std::vector<float> out = DeviceStep(among, 2000).run(among);
        EXPECT_TRUE(same_bits(out.data() + 3 * cols, reference.data(), size_t(cols))) << "schedule " << seed;
      }
      set_schedule(0);
    }
}

TEST(CudaAttention, ARowHasTheSameBitsAmongSoManyThatABlockTakesAllItsSplits) {
  struct Case {
    DType dtype;
    int head_size;
    int64_t window;
  };
  for (const auto& [dtype, head_size, window] :
       {Case{DType::bf16, 64, 0}, {DType::i8, 80, 150}, {DType::f32, 256, 0}}) {
    std::vector<Token> tokens(100, {1, 20});
    tokens[40] = {0, -1};
    tokens[50] = {0, 333};
    Step among({8, 4}, head_size, dtype, tokens), alone({8, 4}, head_size, dtype, {{0, 333}});
    alone.rule.window = among.rule.window = window;
    const int64_t cols = alone.q_cols();
    std::copy_n(alone.q.begin(), cols, among.q.begin() + 50 * cols);
    const std::vector<float> out = DeviceStep(among, kPositions).run(among),
                             one = DeviceStep(alone, kPositions).run(alone);
    EXPECT_TRUE(same_bits(out.data() + 50 * cols, one.data(), size_t(cols))) << head_size;
  }
}

TEST(CudaAttention, AHeadHasTheSameBitsHoweverManyShareItsKeys) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8})
    for (const int head_size : {64, 80, 256}) {
      const Step many({7, 1}, head_size, dtype, {{0, 333}});
      Step one({1, 1}, head_size, dtype, {{0, 333}});
      std::copy_n(many.q.end() - head_size, head_size, one.q.begin());
      const std::vector<float> all = DeviceStep(many, kPositions).run(many),
                               last = DeviceStep(one, kPositions).run(one);
      EXPECT_TRUE(same_bits(all.data() + 6 * head_size, last.data(), size_t(head_size)))
          << name_of(dtype) << ", heads of " << head_size;
    }
}

TEST(CudaAttention, AReplayedGraphReadsPositionsAndPageTablesAnew) {
  Step step({8, 2}, 64, DType::bf16, {{0, 3}, {1, 15}, {0, -1}});
  DeviceStep device(step, kPositions);
  const Graph graph(device.stream, [&] { device.enqueue(step); });
  for (const std::vector<Token>& tokens : {step.tokens, {{1, 333}, {0, 16}, {0, 0}}, {{1, 129}, {1, 130}, {1, 131}}}) {
    step.tokens = tokens;
    device.rows.set(tokens, device.stream);
    graph.launch(device.stream);
    expect_rows(step, device.out.to_host(device.stream), kInTwoParts);
  }
}

TEST(CudaAttention, StaysFiniteWhenScoresAreHuge) {
  Step step({1, 1}, 16, DType::f32, {{0, 300}});
  for (float& value : step.q) value *= 1e4f;
  for (const float value : DeviceStep(step, kPositions).run(step)) ASSERT_TRUE(std::isfinite(value));
}

TEST(CudaAttention, RefusesHeadsOfMoreChannelsThanAWarpTakes) {
  const Step step({1, 1}, 257, DType::i8, {{0, 0}});
  DeviceStep device(step, kPositions);
  EXPECT_THROW(device.enqueue(step), Error);
}

}  // namespace
}  // namespace pleat::cuda
