// A folded model in the engine: the same bits on any number of ranks and in any batch, and its limits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/fold.h"
#include "kernels/check.h"
#include "tests/core/engine/run.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

// The embedded model, folded once for all tests of this file.
class FoldedEngine : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_.emplace();
    folder_ = *scratch_ / "folded";
    FoldOptions options;
    options.model = embedded_model();
    options.text = std::string(PLEAT_SOURCE_DIR) + "/examples/calibration.txt";
    options.out = folder_;
    options.reduction = 0.7;
    options.max_tokens = 2048;
    fold_model(options);
  }
  static void TearDownTestSuite() { scratch_.reset(); }

  static std::vector<int32_t> tokens(int count, int salt) {
    std::vector<int32_t> ids;
    for (int i = 0; i < count; ++i) ids.push_back(int32_t((unsigned(i) * 2654435761u + unsigned(salt) * 97u) % 4096u));
    return ids;
  }

  static std::vector<float> logits(int ranks, WeightFormat dtype, const std::vector<int32_t>& ids, int chunk,
                                   bool folded = true, int threads = 1) {
    std::vector<float> all;
    LoadOptions options;
    options.dtype = dtype;
    options.threads = threads;
    options.oversubscribed = true;
    with_engine(folder_, ranks, options,
                [&](Engine& engine, Communicator& c) { all = run_tokens(engine, c, ids, chunk, folded); });
    return all;
  }

  static bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  static inline std::optional<TemporaryFolder> scratch_;
  static inline std::string folder_;
};

TEST_F(FoldedEngine, LogitsHaveTheSameBitsOnAnyNumberOfRanks) {
  const std::vector<int32_t> ids = tokens(40, 1);
  for (WeightFormat dtype : {WeightFormat::bf16, WeightFormat::f32}) {
    const std::vector<float> one = logits(1, dtype, ids, 64);
    for (int ranks : {2, 3, 4, 5, 7, 40})
      EXPECT_TRUE(same_bits(one, logits(ranks, dtype, ids, 64))) << ranks << " ranks";
  }
}

TEST_F(FoldedEngine, LogitsDoNotDependOnChunksOrThreads) {
  const std::vector<int32_t> ids = tokens(50, 2);
  const std::vector<float> together = logits(1, WeightFormat::bf16, ids, 64);
  for (int chunk : {1, 9, 33}) EXPECT_TRUE(same_bits(together, logits(1, WeightFormat::bf16, ids, chunk))) << chunk;
  EXPECT_TRUE(same_bits(together, logits(2, WeightFormat::bf16, ids, 5, true, 3)));
}

TEST_F(FoldedEngine, ALogitDoesNotDependOnTheBatch) {
  const std::vector<int32_t> ids = tokens(20, 3);
  const std::vector<float> alone = logits(1, WeightFormat::bf16, ids, 1);
  for (int batch : {2, 4, 16}) {
    with_engine(folder_, 2, {}, [&](Engine& engine, Communicator& c) {
      std::vector<float> mine;
      for (int position = 0; position < 20; ++position) {
        StepPlan plan;
        for (int other = 0; other < batch; ++other)
          append_rows(plan, other == batch / 2 ? ids : tokens(20, 10 + other), position, position + 1,
                      other % 3 != 1 || other == batch / 2, other * 2);
        const std::vector<float> all = run_step(engine, c, plan);
        mine.insert(mine.end(), all.begin() + batch / 2 * 4096, all.begin() + (batch / 2 + 1) * 4096);
      }
      EXPECT_TRUE(same_bits(alone, mine)) << "batch " << batch;
    });
  }
}

TEST_F(FoldedEngine, PromptRowsAreDenseAndEqualTheOriginalModel) {
  const std::vector<int32_t> ids = tokens(30, 4);
  const std::vector<float> dense = logits(1, WeightFormat::f32, ids, 64, false);
  std::vector<float> original;
  LoadOptions options;
  options.dtype = WeightFormat::f32;
  with_engine(embedded_model(), 1, options,
              [&](Engine& engine, Communicator& c) { original = run_tokens(engine, c, ids, 64, false); });
  // The neurons stand in another order: equal to rounding, not in bits.
  double worst = 0;
  for (size_t i = 0; i < dense.size(); ++i) worst = std::max(worst, std::abs(double(dense[i]) - original[i]));
  EXPECT_LE(worst, 2e-4);
  EXPECT_GT(worst, 0.0);
}

// The engine's own weights with other ranges: all neurons out of range is the dense FFN, none is the fold alone.
std::vector<float> with_ranges(const std::string& folder, float low, float high, const std::vector<int32_t>& ids) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const Blueprint blueprint = read_blueprint(checkpoint);
  SelfCommunicator communicator;
  Context context(1, true);
  const ShardPlan plan({blueprint.hidden, blueprint.vocab, blueprint.neurons, blueprint.heads, blueprint.kv_heads}, 1,
                       Reduction::invariant);
  Weights weights = load_weights(checkpoint, blueprint, plan, 0, WeightFormat::f32, false, context.team(), {});
  for (LayerWeights& layer : weights.layers) {
    std::fill(layer.fold.range_low.begin(), layer.fold.range_low.end(), low);
    std::fill(layer.fold.range_high.begin(), layer.fold.range_high.end(), high);
  }
  Engine engine(blueprint, std::move(weights), plan, communicator, context, {});
  return run_tokens(engine, communicator, ids, 64, true);
}

TEST_F(FoldedEngine, FallingBackOnEveryNeuronIsTheDenseModelButForTheFoldsRounding) {
  const std::vector<int32_t> ids = tokens(30, 5);
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> dense = logits(1, WeightFormat::f32, ids, 64, false);
  const std::vector<float> all = with_ranges(folder_, infinity, -infinity, ids);
  const std::vector<float> none = with_ranges(folder_, -infinity, infinity, ids);
  double far = 0, near = 0, size = 0;
  for (size_t i = 0; i < dense.size(); ++i) {
    near += std::pow(double(all[i]) - dense[i], 2);
    far += std::pow(double(none[i]) - dense[i], 2);
    size += std::pow(double(dense[i]), 2);
  }
  // C is stored in int8: its rounding, about 2^-8 of a group's largest weight, is all that is left with every neuron
  // exact.
  EXPECT_LE(std::sqrt(near / size), 0.02);
  EXPECT_GT(std::sqrt(far / size), 10 * std::sqrt(near / size));
}

}  // namespace
}  // namespace pleat::test
