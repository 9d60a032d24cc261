#include "core/engine/scoring.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/attention.h"
#include "kernels/check.h"
#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

struct Scored {
  std::vector<int64_t> indices;
  std::vector<float> logits;
};

Scored run_score(Engine& engine, Communicator& communicator, const std::vector<int32_t>& tokens,
                 const ScoringOptions& options) {
  Scored scored;
  score(engine, communicator, tokens, options, [&](int64_t index, std::span<const float> logits) {
    scored.indices.push_back(index);
    scored.logits.insert(scored.logits.end(), logits.begin(), logits.end());
  });
  return scored;
}

TEST(Scoring, GivesTheLogitsOfEveryTokenThatHasAFollowingOneInItsWindow) {
  const std::vector<int32_t> tokens = some_tokens(62, 11);
  LoadOptions load;
  load.engine.max_logit_rows = 8;
  with_engine(embedded_model(), 2, load, [&](Engine& engine, Communicator& communicator) {
    ScoringOptions options;
    options.window = 20;
    const Scored scored = run_score(engine, communicator, tokens, options);
    std::vector<int64_t> indices;
    std::vector<float> logits;
    for (const auto& [begin, end] :
         {std::pair(0, 19), {20, 39}, {40, 59}, {60, 61}}) {  // the last window has two tokens
      for (int index = begin; index < end; ++index) indices.push_back(index);
      const std::vector<float> part =
          run_tokens(engine, communicator, {tokens.begin() + begin, tokens.begin() + end}, 5, true);
      logits.insert(logits.end(), part.begin(), part.end());
    }
    EXPECT_EQ(scored.indices, indices);
    ASSERT_EQ(scored.logits.size(), logits.size());
    EXPECT_EQ(std::memcmp(scored.logits.data(), logits.data(), logits.size() * sizeof(float)), 0);
    options.max_tokens = 21;  // of the second window only one is left
    EXPECT_EQ(run_score(engine, communicator, tokens, options).indices.size(), 19u);
  });
}

// Notes which positions a window runs folded.
class FoldedPositions final : public FfnHook {
 public:
  void ffn(int layer, const StepPlan& plan, MatrixView<const float>, MatrixView<float>) override {
    for (const StepRow& row : plan.rows)
      if (layer == 0 && row.folded) positions.push_back(row.position);
  }
  std::vector<int> positions;
};

TEST(Scoring, RunsTheExactPrefixAndPositionZeroDensely) {
  with_engine(embedded_model(), 1, {}, [&](Engine& engine, Communicator& communicator) {
    for (const auto& [prefix, first_folded] : {std::pair(0, 1), {1, 1}, {4, 4}}) {
      FoldedPositions hook;
      engine.set_ffn_hook(&hook);
      ScoringOptions options;
      options.window = 8;
      options.exact_prefix = prefix;
      run_score(engine, communicator, some_tokens(16, 11), options);
      std::vector<int> expected;
      for (int window = 0; window < 2; ++window)
        for (int position = first_folded; position < 7; ++position) expected.push_back(position);
      EXPECT_EQ(hook.positions, expected);
      engine.set_ffn_hook(nullptr);
    }
  });
}

TEST(Scoring, RefusesAWindowThatDoesNotFitAndAnUnknownToken) {
  LoadOptions load;
  load.engine.kv_tokens = 64;
  with_engine(embedded_model(), 1, load, [&](Engine& engine, Communicator& communicator) {
    ScoringOptions options;
    for (const int window : {1, 66, int(engine.blueprint().max_positions) + 2}) {
      options.window = window;
      EXPECT_THROW(run_score(engine, communicator, some_tokens(4, 11), options), Error) << window;
    }
    options.window = 65;  // the last token needs no place
    EXPECT_EQ(run_score(engine, communicator, some_tokens(65, 11), options).indices.size(), 64u);
    EXPECT_THROW(run_score(engine, communicator, {0, int32_t(engine.blueprint().vocab)}, options), Error);
    EXPECT_TRUE(run_score(engine, communicator, {1}, options).indices.empty());
  });
}

}  // namespace
}  // namespace pleat::test
