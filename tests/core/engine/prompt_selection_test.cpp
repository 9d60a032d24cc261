#include "core/engine/prompt_selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "kernels/context.h"

namespace pleat {
namespace {

constexpr int64_t kNeurons = 40;
constexpr int kPrompt = 7;
const std::vector<int64_t> kShards = {0, 8, 8, 24, 40};

std::vector<LayerWeights> layers_with(SelectionKind selection, double share) {
  std::vector<LayerWeights> layers(1);
  layers[0].spec = {.selection = selection, .share = share};
  layers[0].folded = true;
  layers[0].neuron_offsets = kShards;
  return layers;
}

struct Prompt {
  std::vector<float> values, norms;
  explicit Prompt(unsigned seed) : values(kPrompt * kNeurons), norms(kPrompt) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& value : values) value = normal(random);
    for (int row = 0; row < kPrompt; ++row)
      for (int64_t n = 0; n < kNeurons; ++n)
        norms[size_t(row)] += values[size_t(row * kNeurons + n)] * values[size_t(row * kNeurons + n)];
    for (float& norm : norms) norm = std::sqrt(norm);
  }
  // Rows [begin, end) given to the selection.
  void add(PromptSelection& selection, const StepPlan& plan, int sequence, int begin, int end) const {
    std::vector<StepRow> rows;
    for (int row = begin; row < end; ++row) rows.push_back({0, row, sequence, 0, 0, uint8_t(row + 1 == kPrompt)});
    selection.add(0, plan, rows, {values.data() + begin * kNeurons, end - begin, kNeurons}, norms.data() + begin);
  }
};

std::set<int32_t> chosen(const PromptSelection& prompts, const StepPlan& plan, int sequence) {
  Context ctx(1, true);
  Selection selection(kShards);
  const StepRow row{0, kPrompt, sequence, 1, 1, 0};
  prompts.select(ctx, 0, plan, {&row, 1}, selection);
  return {selection.neuron.begin(), selection.neuron.begin() + selection.count()};
}

// The share of every shard with the largest scores, by sorting them all.
std::set<int32_t> best_of_shards(const std::vector<double>& scores, double share) {
  std::set<int32_t> out;
  for (size_t shard = 0; shard + 1 < kShards.size(); ++shard) {
    std::vector<int32_t> order(size_t(kShards[shard + 1] - kShards[shard]));
    std::iota(order.begin(), order.end(), int32_t(kShards[shard]));
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return scores[size_t(a)] > scores[size_t(b)]; });
    order.resize(size_t(std::llround(share * double(order.size()))));
    out.insert(order.begin(), order.end());
  }
  return out;
}

StepPlan two_sequences() {
  StepPlan plan;
  plan.slots = {1, 0};
  return plan;
}

TEST(PromptSelection, TakesGriffinsStatisticOfThePromptInAnyChunks) {
  const StepPlan plan = two_sequences();
  const Prompt prompt(1), other(2);
  std::vector<double> scores(kNeurons);
  for (int row = 0; row < kPrompt; ++row)
    for (int64_t n = 0; n < kNeurons; ++n)
      scores[size_t(n)] += std::pow(double(prompt.values[size_t(row * kNeurons + n)]) / prompt.norms[size_t(row)], 2);
  for (const int chunk : {1, 3, kPrompt}) {
    PromptSelection selection(layers_with(SelectionKind::prompt, 0.3), 2);
    for (int begin = 0; begin < kPrompt; begin += chunk) {
      prompt.add(selection, plan, 0, begin, std::min(begin + chunk, kPrompt));
      other.add(selection, plan, 1, begin, std::min(begin + chunk, kPrompt));
    }
    EXPECT_EQ(chosen(selection, plan, 0), best_of_shards(scores, 0.3)) << chunk;
    EXPECT_NE(chosen(selection, plan, 1), chosen(selection, plan, 0));
  }
}

TEST(PromptSelection, CountsTheTokensWhoseCoreANeuronIsIn) {
  const StepPlan plan = two_sequences();
  const Prompt prompt(3);
  PromptSelection selection(layers_with(SelectionKind::core, 0.5), 2);
  prompt.add(selection, plan, 1, 0, kPrompt);
  std::vector<double> counts(kNeurons);
  for (int row = 0; row < kPrompt; ++row) {
    std::vector<double> magnitude(kNeurons);
    for (int64_t n = 0; n < kNeurons; ++n) magnitude[size_t(n)] = std::fabs(prompt.values[size_t(row * kNeurons + n)]);
    for (const int32_t n : best_of_shards(magnitude, kTokenCore)) counts[size_t(n)] += 1;
  }
  EXPECT_EQ(chosen(selection, plan, 1), best_of_shards(counts, 0.5));
}

TEST(PromptSelection, ANewSequenceInASlotBeginsAnew) {
  const StepPlan plan = two_sequences();
  PromptSelection used(layers_with(SelectionKind::prompt, 0.3), 2), fresh = used;
  Prompt(4).add(used, plan, 0, 0, kPrompt);
  Prompt(5).add(used, plan, 0, 0, kPrompt);
  Prompt(5).add(fresh, plan, 0, 0, kPrompt);
  EXPECT_EQ(chosen(used, plan, 0), chosen(fresh, plan, 0));
}

}  // namespace
}  // namespace pleat
