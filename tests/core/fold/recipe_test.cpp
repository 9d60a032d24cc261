// Recipes: the file, the knapsack, and the search under a budget.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/budget_table.h"
#include "core/fold/fold.h"
#include "core/fold/knapsack.h"
#include "core/fold/option_meter.h"
#include "core/fold/recipe_bytes.h"
#include "kernels/check.h"
#include "tests/core/fold/folded_models.h"
#include "tests/temporary_folder.h"

namespace pleat {
namespace {

namespace fs = std::filesystem;

TEST(Knapsack, FindsTheBestOfAllCombinations) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> any(0.1, 1);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::vector<Priced>> layers(4, std::vector<Priced>(3));
    for (auto& options : layers)
      for (Priced& option : options) option = {any(random), any(random)};
    const double budget = 2;
    double best = INFINITY;
    for (int code = 0; code < 81; ++code) {
      Priced sum;
      for (int layer = 0, rest = code; layer < 4; ++layer, rest /= 3) {
        sum.bytes += layers[size_t(layer)][size_t(rest % 3)].bytes;
        sum.cost += layers[size_t(layer)][size_t(rest % 3)].cost;
      }
      if (sum.bytes <= budget * 0.998) best = std::min(best, sum.cost);  // within the rounding of bytes
    }
    const std::vector<size_t> chosen = choose_options(layers, budget);
    if (chosen.empty()) {
      EXPECT_FALSE(std::isfinite(best));
      continue;
    }
    Priced sum;
    for (size_t layer = 0; layer < 4; ++layer)
      sum.bytes += layers[layer][chosen[layer]].bytes, sum.cost += layers[layer][chosen[layer]].cost;
    EXPECT_LE(sum.bytes, budget);
    EXPECT_LE(sum.cost, best + 1e-12);
  }
  EXPECT_TRUE(choose_options({{{3, 0}}}, 2).empty());
}

struct File {
  test::TemporaryFolder folder;
  fs::path path;
  explicit File(const std::string& text) : path(folder.write("recipe.json", text)) {}
};

std::string refusal(const std::string& text) {
  const File file(text);
  try {
    read_recipe(file.path, 1, true);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid);
    return error.what();
  }
  return "";
}

TEST(Recipe, ReadsWhatItWrites) {
  LayerRecipe recipe;
  recipe.selection = SelectionKind::predictor;
  recipe.exact = 0.3;
  recipe.predictor_bits = 1;
  recipe.formats = {WeightFormat::int3, WeightFormat::int2, WeightFormat::int4};
  const File file(nlohmann::ordered_json{{"layers", {to_json(recipe, true)}}}.dump());
  EXPECT_EQ(read_recipe(file.path, 1, true), std::vector<LayerRecipe>{recipe});
  recipe.selection = SelectionKind::threshold;
  recipe.predictor_bits = 2;
  recipe.inputs = 0.6;
  const File cut(nlohmann::ordered_json{{"layers", {to_json(recipe, true)}}}.dump());
  EXPECT_EQ(read_recipe(cut.path, 1, true), std::vector<LayerRecipe>{recipe});
}

TEST(Recipe, RefusesWithTheLayerAndTheField) {
  EXPECT_NE(refusal("nothing").find("is not JSON"), std::string::npos);
  EXPECT_NE(refusal(R"({"layers": []})").find("has 0 layers, the model 1"), std::string::npos);
  EXPECT_NE(refusal(R"({"layers": [{"colour": 1}]})").find("layer 0: has an unknown field 'colour'"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"layers": [{"selection": "range"}]})").find("is not one for gated FFNs"), std::string::npos);
  EXPECT_NE(refusal(R"({"layers": [{"selection": "gate", "exact": 2}]})").find("the exact share is 2"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"layers": [{"selection": "gate", "inputs": 0.5}]})").find("gathers gate and up by neuron"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"layers": [{"up": "int9"}]})").find("unknown weight format 'int9'"), std::string::npos);
  EXPECT_NE(refusal(R"({"layers": [{}], "colour": 1})").find("has an unknown field 'colour'"), std::string::npos);
}

TEST(Recipe, RefusesAFieldThatItsLayerHasNoUseFor) {
  const auto refused = [](const std::string& layer, bool gated, const std::string& message) {
    const File file("{\"layers\": [" + layer + "]}");
    try {
      read_recipe(file.path, 1, gated);
      FAIL() << layer;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("layer 0: " + message), std::string::npos) << error.what();
    }
  };
  refused(R"({"gate": "int4"})", false, "selection all of a plain FFN has no use for 'gate'");
  refused(R"({"exact": 0.5})", true, "selection all of a gated FFN has no use for 'exact'");
  refused(R"({"selection": "gate", "exact": 0.5, "predictor_bits": 2})", true,
          "selection gate of a gated FFN has no use for 'predictor_bits'");
  refused(R"({"selection": "range", "exact": 0.5, "lines": false, "fold_format": "bf16"})", false,
          "selection range of a plain FFN without lines has no use for 'fold_format'");
}

constexpr const char* kEmbedded = PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m";

void expect_only_a_dropped_layer_costs(const std::string& folder, const std::vector<Window>& windows) {
  DenseModel model(folder, WeightFormat::bf16, 2, true);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  OptionMeter meter(model, windows);
  for (int layer = 0; layer < model.blueprint().layers; ++layer) {
    SCOPED_TRACE(concat(folder, ", layer ", layer));
    const FfnTensors ffn = read_ffn(checkpoint, model.blueprint(), layer);
    LayerFold same;
    same.spec = {.selection = SelectionKind::all, .lines = false};
    same.bias = ffn.down_bias;
    EXPECT_LT(meter.kl(layer, FoldedLayer(ffn, same, model.blueprint().activation, WeightFormat::bf16)),
              5e-5);  // sums in another order
    FfnTensors nothing = ffn;
    std::fill(nothing.down.data.begin(), nothing.down.data.end(), 0.0f);
    EXPECT_GT(meter.kl(layer, FoldedLayer(nothing, same, model.blueprint().activation, WeightFormat::bf16)), 0.01);
  }
}

TEST(OptionMeter, ALayerLeftAsItIsCostsNothingAndADroppedOneMuch) {
  expect_only_a_dropped_layer_costs(
      kEmbedded, spread_windows(Tokenizer::open(kEmbedded), PLEAT_SOURCE_DIR "/examples/heldout.txt", 256, 256));
  Window window(64);
  for (size_t i = 0; i < window.size(); ++i) window[i] = int32_t(7 * i % 60 + 3);
  expect_only_a_dropped_layer_costs(test::fixture("families/opt-350m"), {window});  // norms behind the sub-layers
}

void search_and_use_again(bool gated) {
  const test::TemporaryFolder out;
  FoldOptions options;
  options.model = test::Models::dense(gated);
  options.text = PLEAT_SOURCE_DIR "/examples/calibration.txt";
  options.out = out / "first";
  options.max_tokens = 1024;
  options.budget = 0.2;
  options.threads = 2;
  options.oversubscribed = true;
  const FoldReport report = fold_model(options);
  ASSERT_TRUE(report.budget.has_value());
  EXPECT_LE(1 - report.reduction, 0.2);
  ASSERT_TRUE(report.budget->plain.has_value());
  EXPECT_LE(report.kl, report.budget->plain->measured);
  EXPECT_EQ(report.kl, report.budget->chose_plain ? report.budget->plain->measured : report.budget->mixed.measured);

  // The table of budgets is the same search again: its 20% is this recipe, and more bytes never cost more.
  const Blueprint blueprint = read_blueprint(Checkpoint::open(options.model));
  const std::vector<BudgetRow> table =
      budget_table(RecipeSearch::read(out / "first" / "options.json", blueprint), dense_ffn_bytes(blueprint));
  ASSERT_EQ(table[1].budget, options.budget);
  EXPECT_NEAR(table[1].counts[0].mixed, report.budget->mixed.predicted, 1e-12);
  EXPECT_NEAR(table[1].counts[0].plain, report.budget->plain->predicted, 1e-12);
  for (size_t count = 0; count < 4; ++count)
    for (size_t row = 1; row < table.size(); ++row)
      EXPECT_LE(table[row].counts[count].mixed, table[row - 1].counts[count].mixed + 1e-12) << count << ", " << row;

  FoldOptions again = options;
  again.budget = 0;
  again.recipe = out / "first" / "recipe.json";
  again.out = out / "second";
  const FoldReport second = fold_model(again);
  EXPECT_EQ(second.recipe, report.recipe);
  EXPECT_EQ(second.reduction, report.reduction);

  // Of another model's shape.
  nlohmann::json foreign = nlohmann::json::parse(std::ifstream(out / "first" / "options.json"));
  foreign["dense"] = 2 * foreign["dense"].get<double>();
  std::ofstream(out / "foreign.json") << foreign;
  EXPECT_THROW(RecipeSearch::read(out / "foreign.json", blueprint), Error);

  options.budget = 0.02;
  options.options = out / "first" / "options.json";
  options.out = out / "third";
  try {
    fold_model(options);
    FAIL() << "a budget of 2% was kept";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("a budget of 2% cannot be kept: the least is "), std::string::npos)
        << error.what();
  }
}

// Windows 0, 1, 2 ... of a text, told by their tokens.
std::vector<Window> numbered(std::initializer_list<int32_t> numbers) {
  std::vector<Window> out;
  for (const int32_t number : numbers) out.emplace_back(300, number);
  return out;
}

TEST(MeterWindows, AreNotFittedOnWhereTheTextHasAnyToSpare) {
  std::vector<Window> all = numbered({0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  all.emplace_back(40, 10);  // the text's end
  const auto numbers = [](const MeterWindows& metered) {
    std::vector<int32_t> out;
    for (const Window& window : metered.windows) {
      EXPECT_EQ(window.size(), 256u);
      out.push_back(window[0]);
    }
    EXPECT_FALSE(metered.fitted);
    return out;
  };
  std::vector<Window> some = numbered({0, 2, 4, 6, 8});
  EXPECT_EQ(numbers(meter_windows(all, some, 1200)), (std::vector<int32_t>{3, 7}));
  EXPECT_EQ(some, numbered({0, 2, 4, 6, 8}));

  std::vector<Window> fit = all;
  EXPECT_EQ(numbers(meter_windows(all, fit, 1200)), (std::vector<int32_t>{2, 7}));
  std::vector<Window> rest = numbered({0, 1, 3, 4, 5, 6, 8, 9});
  rest.emplace_back(40, 10);
  EXPECT_EQ(fit, rest);

  std::vector<Window> few = numbered({0, 1, 2, 3, 4});
  EXPECT_EQ(numbers(meter_windows(few, few, 1200)), (std::vector<int32_t>{2}));
  EXPECT_EQ(few, numbered({0, 1, 3, 4}));

  // Too few tokens would be left, or every window is the same.
  for (std::vector<Window> kept : {numbered({0, 1, 3, 4}), numbered({7, 7, 7, 7, 7, 7, 7, 7, 7, 7})}) {
    const std::vector<Window> before = kept;
    const MeterWindows metered = meter_windows(before, kept, 1200);
    EXPECT_TRUE(metered.fitted);
    EXPECT_FALSE(metered.windows.empty());
    EXPECT_EQ(kept, before);
  }
}

TEST(Budget, IsKeptByARecipeThatLosesToNoMixOfFormatsAndCanBeUsedAgain) {
  for (const bool gated : {false, true}) search_and_use_again(gated);
}

TEST(Fold, SaysWhatIsWrongWithItsInputBeforeTheWorkBegins) {
  const test::TemporaryFolder scratch;
  const fs::path out = scratch / "folded";
  std::string option;
  for (int layer = 0; layer < 6; ++layer)
    option += std::string(layer ? "," : "") + R"([{"recipe":{"selection":"all"},"read":[-1,1,1],"stored":1,"kl":0.1}])";
  const double dense = dense_ffn_bytes(read_blueprint(Checkpoint::open(kEmbedded)));
  const File negative("{\"dense\":" + std::to_string(dense) + ",\"layers\":[" + option + "]}");
  FoldOptions options;
  options.model = kEmbedded;
  options.text = PLEAT_SOURCE_DIR "/examples/calibration.txt";
  options.out = out;
  options.max_tokens = 2048;
  const auto message = [&](auto change) {
    FoldOptions changed = options;
    change(changed);
    int stages = 0;
    std::string text;
    try {
      fold_model(changed, [&](const std::string&, double) { ++stages; });
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid);
      text = error.what();
    }
    EXPECT_EQ(stages, 0);
    EXPECT_FALSE(fs::exists(out));
    return text;
  };
  const auto budget = [](const fs::path& file) {
    return [file](FoldOptions& changed) { changed.budget = 0.2, changed.options = file; };
  };
  EXPECT_NE(message(budget("/nowhere")).find("cannot read '/nowhere'"), std::string::npos);
  EXPECT_NE(message(budget(negative.path)).find("have a count of -1"), std::string::npos);
  EXPECT_NE(message([](FoldOptions& changed) { changed.recipe = "/nowhere"; }).find("cannot read '/nowhere'"),
            std::string::npos);
  EXPECT_NE(message([](FoldOptions& changed) { changed.evaluation_text = "/nowhere"; }).find("/nowhere"),
            std::string::npos);
}

TEST(Fold, EvaluatesOnFewTokensWhereNoPromptChoosesNeurons) {
  struct Begun {};
  const test::TemporaryFolder scratch;
  FoldOptions options;
  options.model = kEmbedded;
  options.text = PLEAT_SOURCE_DIR "/examples/calibration.txt";
  options.evaluation_text = scratch.write("text", "Once upon a time there was a king.");
  options.out = scratch / "folded";
  options.max_tokens = 2048;
  const auto begin = [&] { fold_model(options, [](const std::string&, double) { throw Begun(); }); };
  EXPECT_THROW(begin(), Begun);
  options.selection = SelectionKind::prompt;
  EXPECT_THROW(begin(), Error);
}

}  // namespace
}  // namespace pleat
