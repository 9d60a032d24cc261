#include "core/fold/fold.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>

#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/folded_checkpoint.h"
#include "core/fold/layer_set.h"
#include "core/fold/neuron_order.h"
#include "core/fold/quality.h"
#include "core/fold/recipe_bytes.h"
#include "core/fold/recipe_search.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr std::array<double, 8> kCurve = {.5, .55, .6, .65, .7, .75, .8, .85};
constexpr std::array<double, 8> kGateCurve = {.2, .25, .3, .35, .4, .45, .5, .55};
constexpr std::array<double, 8> kGatePredictorCurve = {.35, .4, .45, .5, .55, .6, .65, .7};

const std::array<double, 8>& curve_of(SelectionKind selection) {
  if (selection == SelectionKind::range) return kCurve;
  return selection == SelectionKind::gate ? kGateCurve : kGatePredictorCurve;
}

double default_reduction(SelectionKind selection) {
  if (selection == SelectionKind::range) return 0.8;
  return selection == SelectionKind::gate ? 0.4 : 0.5;
}

// The steps of one fold, in the order fold_model() takes them.
class Folding {
 public:
  Folding(const FoldOptions& options, const FoldProgress& progress)
      : options_(options),
        progress_(progress),
        checkpoint_(Checkpoint::open(options.model)),
        blueprint_(read_blueprint(checkpoint_)) {
    check_options();
  }

  FoldReport run() {
    const auto start = std::chrono::steady_clock::now();
    FolderInTheMaking out(options_.out);
    calibrate();
    const LayerPlan plan = options_.budget > 0 ? search() : given_plan();
    const std::vector<BuiltLayer> layers = fold_layers(plan);
    if (!held_out_.empty()) evaluate(layers);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    write_folded_checkpoint(checkpoint_, blueprint_, report_.reduction, layers, out.folder(),
                            [this](double done) { tell("write", done); });
    write_text(out.folder() / "recipe.json", recipe_json(report_).dump(1) + "\n");
    if (!options_json_.empty()) write_text(out.folder() / "options.json", options_json_);
    write_text(out.folder() / "fold_report.json", to_json(report_).dump(1) + "\n");
    write_text(out.folder() / "fold_report.svg", to_svg(report_));
    tell("write", 1);
    out.commit();
    return std::move(report_);
  }

 private:
  Context& context() { return model_->context(); }
  void tell(const std::string& stage, double fraction) const {
    if (progress_) progress_(stage, fraction);
  }

  void check_options() {
    PLEAT_REQUIRE(!blueprint_.fold, "'", options_.model, "' is folded already: fold the dense model it was made from");
    PLEAT_REQUIRE(blueprint_.quantised.empty(), "'", options_.model, "' is quantised: fold the model it was made from");
    report_.gated = blueprint_.gated;
    if (options_.budget > 0) {
      PLEAT_REQUIRE(options_.budget <= 1, "the budget is a share of dense bf16's bytes between 0 and 1, not ",
                    options_.budget);
      PLEAT_REQUIRE(batch_index() < kReportBatches.size(), "a budget counts steps of 1, 4 or 16 rows, not ",
                    options_.batch);
      if (!options_.options.empty()) measured_ = RecipeSearch::read(options_.options, blueprint_);
      const double least = measured_ ? 0 : RecipeSearch(blueprint_).least_share(blueprint_);
      PLEAT_REQUIRE(options_.budget >= least, "a budget of ", 100 * options_.budget,
                    "% cannot be kept: no recipe is below ", std::ceil(1000 * least) / 10, "%");
    } else if (!options_.recipe.empty()) {
      given_ = read_recipe(options_.recipe, blueprint_.layers, blueprint_.gated);
    } else {
      check_uniform();
    }
  }

  bool is_uniform() const { return options_.budget == 0 && options_.recipe.empty(); }
  bool one_budget() const { return is_uniform() && shares_budget(uniform_recipe().selection); }

  // A search has no such recipe to choose.
  bool prompts_choose() const {
    return is_uniform() ? by_prompt(uniform_recipe().selection)
                        : std::ranges::any_of(given_, by_prompt, &LayerRecipe::selection);
  }

  size_t batch_index() const {
    return size_t(std::find(kReportBatches.begin(), kReportBatches.end(), options_.batch) - kReportBatches.begin());
  }

  LayerRecipe uniform_recipe() const {
    LayerRecipe out;
    out.selection = options_.selection.value_or(blueprint_.gated ? SelectionKind::predictor : SelectionKind::range);
    out.lines = options_.lines;
    out.inputs = options_.inputs;
    out.predictor_bits = options_.predictor_bits;
    out.fold_format = options_.fold_format;
    out.formats = options_.rows;
    if (!blueprint_.gated) out.formats.gate = FfnFormats().gate;
    return out;
  }

  void check_uniform() {
    LayerRecipe recipe = uniform_recipe();
    recipe.exact = 0.5;
    with_context(concat("'", options_.model, "'"), [&] { check(recipe, blueprint_.gated); });
    report_.asked = options_.reduction.value_or(default_reduction(recipe.selection));
    PLEAT_REQUIRE(report_.asked > 0 && report_.asked < 1, "the reduction is a share between 0 and 1, not ",
                  report_.asked);
    if (recipe.selection == SelectionKind::all) {
      PLEAT_REQUIRE(!options_.reduction, "a reduction is asked for, but selection all computes every neuron");
      report_.asked = 0;
      return;
    }
    const std::string selector = has_predictor(recipe.selection)
                                     ? concat("its ", options_.predictor_bits, "-bit predictor")
                                     : concat("what selection ", name_of(recipe.selection), " reads");
    PLEAT_REQUIRE(exact_for(blueprint_, recipe, report_.asked) > 0, "a reduction of ", report_.asked,
                  " cannot be reached: the fold and ", selector, " leave at most ",
                  std::floor(1000 * (1 - read_share(blueprint_, recipe, 0))) / 1000);
  }

  // Whatever is wrong with the input shows before the long work begins.
  void calibrate() {
    model_ = std::make_unique<DenseModel>(options_.model, options_.dtype, options_.threads, options_.oversubscribed);
    const Tokenizer tokenizer = Tokenizer::open(options_.model);
    if (!options_.evaluation_text.empty()) {
      held_out_ = spread_windows(tokenizer, options_.evaluation_text, model_->window(), options_.evaluation_tokens);
      const size_t longest = std::ranges::max(held_out_, {}, &Window::size).size();
      const size_t fewest = size_t(prompt_rows(prompts_choose(), model_->window())) + 2;  // one row is compared
      PLEAT_REQUIRE(longest >= fewest, "the text '", options_.evaluation_text,
                    "' is too short to evaluate on: ", longest, " tokens of at least ", fewest);
    }
    layers_ = std::make_unique<LayerSet>(*model_,
                                         LayerSet::Source{.checkpoint = checkpoint_,
                                                          .blueprint = blueprint_,
                                                          .tokenizer = tokenizer,
                                                          .text = options_.text,
                                                          .max_tokens = options_.max_tokens,
                                                          .weighs = one_budget()},
                                         [this](const std::string& stage, double done) { tell(stage, done); });
    report_.calibration_tokens = layers_->tokens();
    report_.sample_rows = layers_->sample_rows();
  }

  LayerPlan given_plan() {
    if (!given_.empty()) return {given_, {}};
    const LayerRecipe recipe = uniform_recipe();
    return layers_->plan(recipe,
                         recipe.selection == SelectionKind::all ? 1 : exact_for(blueprint_, recipe, report_.asked));
  }

  RecipeSearch measured_options() {
    RecipeSearch recipes(blueprint_);
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      recipes.measure_layer(layers_->builder(layer), layers_->meter(),
                            [&](double done) { tell("measure options", (layer + done) / blueprint_.layers); });
      layers_->builder(layer).rest();
      layers_->builder(layer).forget_quantised();
    }
    return recipes;
  }

  // The best recipe under the budget; with a recipe of formats alone beside it, which it must not lose to.
  LayerPlan search() {
    const RecipeSearch recipes = measured_ ? *measured_ : measured_options();
    options_json_ = recipes.to_json().dump(1) + "\n";
    const ByteCount count{batch_index(), options_.stored};
    const double dense = dense_ffn_bytes(blueprint_);
    const FoundRecipe mixed = recipes.best(options_.budget * dense, count, false);
    const FoundRecipe plain = recipes.best(options_.budget * dense, count, true);
    PLEAT_REQUIRE(!mixed.layers.empty(), "a budget of ", 100 * options_.budget, "% cannot be kept: the least is ",
                  std::ceil(1000 * recipes.smallest(count) / dense) / 10, "%");
    BudgetReport& budget = report_.budget.emplace();
    budget.asked = options_.budget;
    budget.batch = options_.batch;
    budget.stored = options_.stored;
    if (!plain.layers.empty())
      budget.plain = {plain.bytes / dense, plain.predicted, layers_->kl({plain.layers, {}}, "measure plain recipe")};
    budget.mixed = {mixed.bytes / dense, mixed.predicted, layers_->kl({mixed.layers, {}}, "measure recipe")};
    budget.chose_plain = budget.plain && budget.plain->measured < budget.mixed.measured;
    return {budget.chose_plain ? plain.layers : mixed.layers, {}};
  }

  std::vector<BuiltLayer> fold_layers(const LayerPlan& plan) {
    std::vector<BuiltLayer> out;
    std::vector<LayerMeasurement> measurements;
    std::vector<FoldedLayer> changed;
    layers_->make(plan, "fold", [&](int layer, BuiltLayer built) {
      LayerBuilder& builder = layers_->builder(layer);
      measurements.push_back(builder.measure(built));
      measurements.back().report.weight = layers_->weight(layer);
      report_.layers.push_back(measurements.back().report);
      changed.push_back(builder.layer(built));
      if (gathers(built.fold.spec.selection) && !built.fold.spec.cuts_inputs)
        built = reordered(built, balanced_order(measurements.back().frequency, kVirtualShards));
      if (held_out_.empty()) built.weights.forget_values();  // only evaluate() runs them again
      out.push_back(std::move(built));
    });
    report_.recipe = plan.recipes;
    report_.total = total_of(measurements);
    report_.reduction = 1 - report_.total.read[0] / report_.total.dense;
    report_.kl_is_fitted = layers_->meters_fitted();
    report_.kl = layers_->meter().kl(pointers_to(changed));
    const int64_t prompt = prompt_rows(pointers_to(changed), model_->window());
    changed.clear();  // every layer packed
    measure_plain(prompt);
    return out;
  }

  // What plain quantisation gives on the same tokens: the honest neighbour of every fold.
  void measure_plain(int64_t prompt) {
    for (const WeightFormat format : {WeightFormat::int4, WeightFormat::int3}) {
      LayerRecipe recipe;
      recipe.formats = {blueprint_.gated ? format : FfnFormats().gate, format, format};
      double bytes = 0;
      std::vector<FoldedLayer> made;
      layers_->make({std::vector<LayerRecipe>(size_t(blueprint_.layers), recipe), {}},
                    concat("plain ", name_of(format)), [&](int layer, const BuiltLayer& built) {
                      bytes += double(built.bytes().stored);
                      made.push_back(layers_->builder(layer).layer(built));
                    });
      report_.plain.push_back({std::string(name_of(format)), bytes / dense_ffn_bytes(blueprint_),
                               layers_->meter().kl(pointers_to(made), prompt)});
    }
  }

  void evaluate(const std::vector<BuiltLayer>& built) {
    std::vector<FoldedLayer> layers;
    for (size_t layer = 0; layer < built.size(); ++layer)
      layers.push_back(layers_->builder(int(layer)).layer(built[layer]));
    const int64_t prompt = prompt_rows(pointers_to(layers), model_->window());
    FoldedForm with_fold(context(), pointers_to(layers), FfnForm::folded, prompt),
        without(context(), pointers_to(layers), FfnForm::dropped, prompt);
    const std::vector<FfnHook*> hooks = {&with_fold, &without};
    const QualityComparison comparison =
        compare_with_dense(*model_, held_out_, hooks, prompt, [this](double done) { tell("evaluate", done); });
    report_.evaluation_tokens = comparison.tokens;
    report_.dense_perplexity = comparison.dense_perplexity;
    report_.folded = comparison.variants[0];
    report_.dropped = comparison.variants[1];
    if (!one_budget()) return;
    for (const double asked : curve_of(uniform_recipe().selection)) report_.curve.push_back(curve_point(asked));
  }

  CurvePoint curve_point(double asked) {
    CurvePoint point;
    point.asked = asked;
    LayerRecipe recipe = uniform_recipe();
    if (has_predictor(recipe.selection) && exact_for(blueprint_, recipe, asked) <= 0)
      recipe.predictor_bits = 1;  // its bytes alone are too many
    point.predictor_bits = recipe.predictor_bits;
    point.reachable = exact_for(blueprint_, recipe, asked) > 0;
    if (!point.reachable) return point;
    std::vector<FoldedLayer> layers;
    std::vector<LayerMeasurement> measurements;
    layers_->make(layers_->plan(recipe, exact_for(blueprint_, recipe, asked)), concat("curve at ", asked),
                  [&](int layer, const BuiltLayer& built) {
                    layers.push_back(layers_->builder(layer).layer(built));
                    measurements.push_back(layers_->builder(layer).measure(built));
                  });
    const LayerReport total = total_of(measurements);
    point.fallback = total.fallback;
    for (size_t i = 0; i < total.read.size(); ++i) point.read[i] = total.read[i] / total.dense;
    point.reduction = 1 - point.read[0];
    FoldedForm form(context(), pointers_to(layers), FfnForm::folded, 1);
    const std::vector<FfnHook*> hooks = {&form};
    point.quality = compare_with_dense(*model_, held_out_, hooks, 1, [&](double done) {
                      tell(concat("evaluate at ", asked), done);
                    }).variants[0];
    return point;
  }

  static void write_text(const std::filesystem::path& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.close();
    if (!file) throw Error(ErrorKind::failed, concat("cannot write '", path.string(), "'"));
  }

  const FoldOptions& options_;
  const FoldProgress& progress_;
  Checkpoint checkpoint_;
  Blueprint blueprint_;
  FoldReport report_;
  std::string options_json_;
  std::optional<RecipeSearch> measured_;  // by an earlier search
  std::vector<LayerRecipe> given_;        // by a recipe file
  std::vector<Window> held_out_;
  std::unique_ptr<DenseModel> model_;
  std::unique_ptr<LayerSet> layers_;
};

}  // namespace

FoldReport fold_model(const FoldOptions& options, const FoldProgress& progress) {
  return Folding(options, progress).run();
}

}  // namespace pleat
