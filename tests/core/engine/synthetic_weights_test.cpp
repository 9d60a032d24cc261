// Weights made of nothing, for benchmarks: every rank has its own, whatever there is for it.
#include <gtest/gtest.h>

#include <tuple>

#include "core/checkpoint/checkpoint.h"
#include "core/engine/engine.h"
#include "core/engine/weights.h"
#include "core/model/blueprint.h"
#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

// A model of four heads with the parts that the family has.
Blueprint small_model(const std::string& family, double reduction) {
  Blueprint blueprint = read_blueprint(Checkpoint::open(fixture("families/" + family)));
  blueprint.heads = blueprint.kv_heads = 4;
  blueprint.head_size = 32;
  blueprint.hidden = blueprint.embedding = 128;
  blueprint.neurons = 1024;
  const LayerFoldSpec spec{.selection = blueprint.gated ? SelectionKind::gate : SelectionKind::range};
  if (reduction > 0)
    blueprint.fold =
        FoldSpec{.layers = std::vector<LayerFoldSpec>(size_t(blueprint.layers), spec), .reduction = reduction};
  return blueprint;
}

TEST(SyntheticWeights, AreThereOnARankWithoutHeadsOrInputsOfTheFold) {
  Context ctx(2, true);
  using enum WeightFormat;
  for (const auto& [family, reduction, format] : {std::tuple("gpt2", 0.0, int4),
                                                  {"gpt2", 0.0, planes4},
                                                  {"gpt2", 0.4, bf16},
                                                  {"gpt2", 0.8, int4},
                                                  {"llama-3.1", 0.8, planes4}}) {
    const Blueprint blueprint = small_model(family, reduction);
    ModelSizes sizes = sizes_of(blueprint);
    if (is_low_bit(format)) sizes.neuron_unit = kGroup;
    const int ranks = 9;
    const ShardPlan plan(sizes, ranks, Reduction::invariant);
    int without = 0;
    for (int rank = 0; rank < ranks && without == 0; ++rank) {
      if (plan.heads(rank).size() > 0) continue;
      ++without;
      const Weights weights = synthetic_weights(blueprint, plan, rank, format, ctx, nullptr);
      EXPECT_EQ(weights.layers[0].attention.output.inputs(), 0) << family << " " << name_of(format);
      EXPECT_EQ(weights.layers[0].neurons, plan.neurons(rank).size());
    }
    EXPECT_EQ(without, 1);
  }
}

}  // namespace
}  // namespace pleat::test
