// Weights that are held elsewhere leave as they come.
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "core/checkpoint/checkpoint.h"
#include "kernels/check.h"
#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

// Notes what it is given, and drops it.
class NotingTaker : public WeightTaker {
 public:
  explicit NotingTaker(int layers) : layer_bytes(size_t(layers)) {}
  void take(int layer, LayerWeights weights) override {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(layer_bytes.at(size_t(layer)), 0u) << "layer " << layer << " comes twice";
    EXPECT_FALSE(weights.attention_norm.weight.empty());
    EXPECT_GT(weights.attention.output.bytes(), 0u);
    EXPECT_GT(weights.exact_bytes(), 0u);
    layer_bytes[size_t(layer)] = weights.bytes();
  }
  void take(OuterWeights weights) override {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(outer_bytes, 0u);
    EXPECT_FALSE(weights.final_norm.weight.empty());
    outer_bytes = weights.bytes();
  }

  std::mutex mutex;
  std::vector<size_t> layer_bytes;
  size_t outer_bytes = 0;
};

class Loader {
 public:
  Weights load(
      int threads, WeightTaker* taker, const std::function<void(int)>& after_part = [](int) {}) const {
    Context context(threads, true);
    return load_weights(checkpoint_, blueprint_, plan_, 0, WeightFormat::bf16, false, context.team(),
                        {[] {}, [&](int done, int) { after_part(done); }}, taker);
  }
  int layers() const { return blueprint_.layers; }

 private:
  Checkpoint checkpoint_ = Checkpoint::open(embedded_model());
  Blueprint blueprint_ = read_blueprint(checkpoint_);
  ShardPlan plan_{sizes_of(blueprint_), 1, Reduction::invariant};
};

TEST(WeightTaker, HasEveryLayerOnceAndTheRestAndLeavesTheShapes) {
  const Loader loader;
  const Weights held = loader.load(1, nullptr);
  for (const int threads : {1, 3}) {
    NotingTaker taker(loader.layers());
    const Weights left = loader.load(threads, &taker);
    EXPECT_EQ(taker.outer_bytes, static_cast<const OuterWeights&>(held).bytes());
    EXPECT_EQ(left.bytes(), held.bytes());
    EXPECT_EQ(left.taken_bytes, held.bytes());
    EXPECT_EQ(left.head.outputs(), 0);
    ASSERT_EQ(left.layers.size(), held.layers.size());
    for (size_t layer = 0; layer < held.layers.size(); ++layer) {
      EXPECT_EQ(taker.layer_bytes[layer], held.layers[layer].bytes());
      EXPECT_EQ(left.layers[layer].bytes(), 0u);
      EXPECT_TRUE(left.layers[layer].attention_norm.weight.empty());
      EXPECT_EQ(left.layers[layer].neurons, held.layers[layer].neurons);
      EXPECT_EQ(left.layers[layer].neuron_offsets, held.layers[layer].neuron_offsets);
    }
  }
}

// One thread loads a layer in two parts, and has given it away before the next.
TEST(WeightTaker, HasALayerBeforeTheNextIsLoaded) {
  const Loader loader;
  NotingTaker taker(loader.layers());
  loader.load(1, &taker, [&](int done) {
    const auto taken = std::ranges::count_if(taker.layer_bytes, [](size_t bytes) { return bytes > 0; });
    EXPECT_EQ(taken, (done - 1) / 2) << "after part " << done;
    EXPECT_GT(taker.outer_bytes, 0u);
  });
}

TEST(WeightTaker, ThatFailsEndsLoadingWithTheLayersName) {
  class Full : public WeightTaker {
   public:
    void take(int layer, LayerWeights) override { PLEAT_REQUIRE(layer != 1, "no room"); }
    void take(OuterWeights) override {}
  } full;
  try {
    Loader().load(1, &full);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "layer 1: no room");
  }
}

}  // namespace
}  // namespace pleat::test
