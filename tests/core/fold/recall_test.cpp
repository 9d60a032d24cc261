// What an engine counts of its predictors against what the layer's exact values say.
#include <gtest/gtest.h>

#include "core/checkpoint/checkpoint.h"
#include "tests/core/fold/folded_models.h"

namespace pleat::test {
namespace {

constexpr int kPromptTokens = 20;

// Sees W1 x + b1 of the first layer.
class FirstLayer : public StageObserver {
 public:
  void stage(const char* name, int layer, MatrixView<const float> value) override {
    if (layer == 0 && std::string(name) == "fc") z.assign(value[value.rows - 1], value[value.rows - 1] + value.cols);
  }
  std::vector<float> z;  // of the last row
};

struct Counted {
  EngineStatistics statistics;
  std::vector<float> logits, z;
};

// A prompt and then one more token, folded or not. Ranges from -infinity to 0.25.
Counted run_one_token(const std::string& folder, int64_t recall_every, bool folded) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const Blueprint blueprint = read_blueprint(checkpoint);
  SelfCommunicator communicator;
  Context context(1, true);
  const ShardPlan plan(sizes_of(blueprint), 1, Reduction::invariant);
  Weights weights = load_weights(checkpoint, blueprint, plan, 0, WeightFormat::f32, false, context.team(), {});
  for (LayerWeights& layer : weights.layers) {
    std::fill(layer.fold.range_low.begin(), layer.fold.range_low.end(), -1e30f);
    std::fill(layer.fold.range_high.begin(), layer.fold.range_high.end(), 0.25f);
  }
  EngineOptions options;
  options.recall_every = recall_every;
  Engine engine(blueprint, std::move(weights), plan, communicator, context, options);
  FirstLayer observer;
  std::vector<int32_t> tokens;
  for (int i = 0; i <= kPromptTokens; ++i) tokens.push_back(2 + i * 37 % 200);
  StepPlan prompt, next;
  append_rows(prompt, tokens, 0, kPromptTokens, false);
  append_rows(next, tokens, kPromptTokens, kPromptTokens + 1, folded);
  next.step = 3;
  run_step(engine, communicator, prompt);
  engine.set_observer(&observer);
  engine.reset_statistics();
  Counted counted;
  counted.logits = run_step(engine, communicator, next);
  counted.statistics = engine.statistics();
  counted.z = observer.z;
  return counted;
}

TEST(Recall, CountsTheNeuronsThatTheExactValuesCallFor) {
  LayerRecipe recipe;
  recipe.selection = SelectionKind::range;
  recipe.exact = 0.3;
  const std::string folder = Models::folded(false, recipe);
  const Counted dense = run_one_token(folder, 0, false), folded = run_one_token(folder, 0, true),
                counted = run_one_token(folder, 4, true);
  const auto called = std::count_if(dense.z.begin(), dense.z.end(), [](float z) { return z > 0.25f; });
  const EngineStatistics& s = counted.statistics;
  EXPECT_GT(called, 5);
  EXPECT_EQ(s.needed[0], called);
  for (size_t layer = 0; layer < s.needed.size(); ++layer) {
    EXPECT_EQ(s.choices[layer], int64_t(dense.z.size()));
    EXPECT_GT(s.found[layer], 0);
    EXPECT_LE(s.found[layer], s.fallback[layer]);
    EXPECT_LT(s.found[layer], s.needed[layer]) << "two bits do not see all";
  }
  EXPECT_EQ(counted.logits, folded.logits) << "looking changes nothing";
  EXPECT_EQ(folded.statistics.needed[0], 0);
  EXPECT_EQ(run_one_token(folder, 5, true).statistics.needed[0], 0) << "in another step";
}

TEST(Recall, OfAGatedFfnToo) {
  LayerRecipe recipe;
  recipe.selection = SelectionKind::predictor;
  recipe.exact = 0.3;
  const EngineStatistics s = run_one_token(Models::folded(true, recipe), 4, true).statistics;
  for (size_t layer = 0; layer < s.needed.size(); ++layer) {
    EXPECT_GT(s.found[layer], s.needed[layer] / 3);
    EXPECT_LE(s.found[layer], std::min(s.needed[layer], s.fallback[layer]));
  }
}

}  // namespace
}  // namespace pleat::test
