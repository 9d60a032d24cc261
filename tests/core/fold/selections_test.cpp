// Every selection, with lines and without, over rows in any format: in the engine, on the smallest real shapes.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "core/checkpoint/checkpoint.h"
#include "kernels/check.h"
#include "tests/core/fold/folded_models.h"

namespace pleat::test {
namespace {

constexpr int kPrompt = 9;

// Logits of two sequences side by side, the first kPrompt tokens of each densely, `chunk` of them a step.
std::vector<float> logits(const std::string& folder, int ranks, int chunk, WeightFormat dtype = WeightFormat::f32,
                          bool dense = false) {
  LoadOptions options;
  options.dtype = dtype;
  options.dense = dense;
  options.oversubscribed = true;
  std::vector<float> all;
  with_engine(folder, ranks, options, [&](Engine& engine, Communicator& communicator) {
    for (int begin = 0; begin < 24; begin += chunk) {
      StepPlan plan;
      for (int sequence = 0; sequence < 2; ++sequence) {
        for (int position = begin; position < std::min(24, begin + chunk); ++position)
          plan.rows.push_back({2 + (position * 37 + sequence * 11) % 200, position, sequence,
                               uint8_t(position >= kPrompt), 1, uint8_t(position == kPrompt - 1)});
        plan.page_tables.push_back({2 * sequence, 2 * sequence + 1});
        plan.slots.push_back(3 - sequence);
      }
      const std::vector<float> part = run_step(engine, communicator, plan);
      all.insert(all.end(), part.begin(), part.end());
    }
  });
  return all;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double squared = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squared += std::pow(double(a[i]) - b[i], 2);
    size += std::pow(double(b[i]), 2);
  }
  return std::sqrt(squared / size);
}

using Case = std::tuple<bool, SelectionKind, bool, WeightFormat, double>;  // gated, selection, lines, rows, inputs

class EverySelection : public testing::TestWithParam<Case> {
 protected:
  LayerRecipe recipe(double exact) const {
    const auto [gated, selection, lines, format, inputs] = GetParam();
    LayerRecipe out;
    out.inputs = inputs;
    out.selection = selection;
    out.exact = selection == SelectionKind::all ? 1 : exact;
    out.lines = lines;
    out.formats = {format, format, format};
    return out;
  }
  bool gated() const { return std::get<0>(GetParam()); }
  bool is_all() const { return std::get<1>(GetParam()) == SelectionKind::all; }
};

TEST_P(EverySelection, GivesTheSameBitsOnAnyNumberOfRanksAndInAnyChunks) {
  const std::string folder = Models::folded(gated(), recipe(0.3));
  for (const WeightFormat dtype : {WeightFormat::f32, WeightFormat::bf16}) {
    const std::vector<float> alone = logits(folder, 1, 24, dtype);
    for (const float value : alone) ASSERT_TRUE(std::isfinite(value));
    for (const int ranks : {2, 3, 4, 7}) EXPECT_EQ(logits(folder, ranks, 24, dtype), alone) << ranks << " ranks";
    // In other chunks the rows come in another order: compare a sequence's last row.
    const std::vector<float> by_one = logits(folder, 2, 1, dtype);
    const size_t vocab = alone.size() / 48;
    EXPECT_TRUE(std::equal(alone.end() - int64_t(vocab), alone.end(), by_one.end() - int64_t(vocab)));
  }
}

TEST_P(EverySelection, IsNearTheDenseModelAndWithoutAFoldFurtherFromIt) {
  const std::vector<float> dense = logits(Models::dense(gated()), 1, 24);
  const double here = distance(logits(Models::folded(gated(), recipe(0.3)), 1, 24), dense);
  EXPECT_LT(here, 1.0);
  // With lines a prompt is judged by what they miss: those are other neurons.
  if (is_all() || by_prompt(recipe(0.3).selection) || std::get<2>(GetParam())) return;
  LayerRecipe with_lines = recipe(0.3);
  with_lines.lines = true;
  EXPECT_GT(here, distance(logits(Models::folded(gated(), with_lines), 1, 24), dense));
}

std::vector<Case> cases() {
  std::vector<Case> out;
  using enum SelectionKind;
  for (const bool gated : {false, true})
    for (const SelectionKind selection : {all, range, gate, predictor, threshold, prompt, core, hot})
      for (const bool lines : {true, false})
        for (const WeightFormat format :
             {WeightFormat::bf16, WeightFormat::int4, WeightFormat::int3, WeightFormat::planes4})
          for (const double inputs : {1.0, 0.6})
            if (is_for(selection, gated) && (lines || (selection != all && format == WeightFormat::bf16)) &&
                (inputs == 1 || (can_cut_inputs(selection) && format != WeightFormat::int3)))
              out.emplace_back(gated, selection, lines, format, inputs);
  return out;
}

std::string name_of_case(const testing::TestParamInfo<Case>& info) {
  const auto [gated, selection, lines, format, inputs] = info.param;
  return concat(gated ? "gated_" : "plain_", name_of(selection), lines ? "" : "_without_lines", "_", name_of(format),
                inputs < 1 ? "_inputs_cut" : "");
}

INSTANTIATE_TEST_SUITE_P(Selections, EverySelection, testing::ValuesIn(cases()), name_of_case);

// All neurons exact is the dense FFN, whoever selects: what is left is C's 8 bits, or nothing without lines.
TEST(Selections, FallingBackOnEveryNeuronEqualsTheDenseModel) {
  for (const bool gated : {false, true})
    for (const SelectionKind selection :
         {SelectionKind::threshold, SelectionKind::prompt, SelectionKind::core, SelectionKind::hot})
      for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int8, WeightFormat::planes4}) {
        LayerRecipe recipe;
        recipe.selection = selection;
        recipe.exact = 1;
        recipe.lines = false;
        recipe.formats = {format, format, format};
        LayerRecipe all = recipe;
        all.selection = SelectionKind::all;
        // Planes that are gathered share their scales otherwise than those that are not: the same folder, run densely.
        const bool itself = has_planes(format) && gathers(selection);
        const std::vector<float> dense =
            logits(format == WeightFormat::bf16 ? std::string(Models::dense(gated))
                                                : Models::folded(gated, itself ? recipe : all),
                   1, 24, WeightFormat::f32, itself);
        // int8: the rows' groups and the activations' rounding differ between the two layouts.
        EXPECT_LT(distance(logits(Models::folded(gated, recipe), 1, 24), dense),
                  format == WeightFormat::bf16 ? 1e-4 : 2e-2)
            << gated << " " << name_of(selection) << " " << name_of(format);
      }
}

TEST(Selections, AStaticFoldKeepsOnlyItsNeuronsAndSaysSoWhenAskedToRunDensely) {
  LayerRecipe recipe;
  recipe.selection = SelectionKind::hot;
  recipe.exact = 0.25;
  const std::string folder = Models::folded(true, recipe);
  const Blueprint blueprint = read_blueprint(Checkpoint::open(folder));
  EXPECT_EQ(blueprint.held_neurons(0), std::llround(0.25 * double(blueprint.neurons)));
  EXPECT_THROW(logits(folder, 1, 24, WeightFormat::f32, true), Error);
}

TEST(Selections, WhoseInputsAreCutRunsDenselyOnAllOfThem) {
  for (const bool gated : {false, true})
    for (const SelectionKind selection : {SelectionKind::all, SelectionKind::threshold})
      for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int4}) {
        LayerRecipe recipe;
        recipe.selection = selection;
        recipe.exact = 0.6, recipe.inputs = 0.4;
        recipe.lines = false;
        recipe.formats = {format, format, format};
        const std::string folder = Models::folded(gated, recipe);
        const std::vector<float> dense = logits(Models::dense(gated), 1, 24),
                                 whole = logits(folder, 1, 24, WeightFormat::f32, true);
        EXPECT_LT(distance(whole, dense), format == WeightFormat::bf16 ? 1e-6 : 0.5) << gated << name_of(selection);
        EXPECT_LT(distance(whole, dense), 0.8 * distance(logits(folder, 1, 24), dense)) << gated << name_of(selection);
        EXPECT_EQ(logits(folder, 3, 24, WeightFormat::f32, true), whole) << gated << name_of(selection);
      }
}

TEST(Selections, OneForOtherFfnsIsRefused) {
  LayerRecipe recipe;
  recipe.selection = SelectionKind::range;
  EXPECT_THROW(check(recipe, true), Error);
  recipe.selection = SelectionKind::gate;
  EXPECT_THROW(check(recipe, false), Error);
}

}  // namespace
}  // namespace pleat::test
