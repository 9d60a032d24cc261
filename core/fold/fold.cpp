#include "core/fold/fold.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <numeric>

#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/calibration.h"
#include "core/fold/folded_checkpoint.h"
#include "core/fold/layer_builder.h"
#include "core/fold/neuron_order.h"
#include "core/fold/quality.h"
#include "core/fold/recipe_bytes.h"
#include "core/fold/recipe_search.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int64_t kFewestTokens = 1024;  // below, the ranges are noise
constexpr size_t kSensitivityWindows = 4;
constexpr std::array<double, 8> kCurve = {.5, .55, .6, .65, .7, .75, .8, .85};
constexpr std::array<double, 8> kGateCurve = {.2, .25, .3, .35, .4, .45, .5, .55};
constexpr std::array<double, 8> kGatePredictorCurve = {.35, .4, .45, .5, .55, .6, .65, .7};

const std::array<double, 8>& curve_of(SelectionKind selection) {
  if (selection == SelectionKind::range) return kCurve;
  return selection == SelectionKind::gate ? kGateCurve : kGatePredictorCurve;
}

// Whose exact share one budget spreads over layers and neurons.
bool has_candidates(SelectionKind selection) {
  return selection == SelectionKind::range || selection == SelectionKind::gate || selection == SelectionKind::predictor;
}

double default_reduction(SelectionKind selection) {
  if (selection == SelectionKind::range) return 0.8;
  return selection == SelectionKind::gate ? 0.4 : 0.5;
}

// Layers of one model, each after its recipe; choices: of builders' candidates, or empty.
struct Plan {
  std::vector<LayerRecipe> recipes;
  RangeChoice choices;
};

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
    model_ = std::make_unique<DenseModel>(options_.model, options_.threads, options_.oversubscribed);
    calibrate();
    const Plan plan = options_.budget > 0 ? search() : given_plan();
    const std::vector<BuiltLayer> layers = fold_layers(plan);
    if (!options_.evaluation_text.empty()) evaluate(plan, layers);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    write_folded_checkpoint(checkpoint_, blueprint_, report_.reduction, layers, out.folder());
    write_text(out.folder() / "recipe.json", recipe_json(report_).dump(1) + "\n");
    if (!options_json_.empty()) write_text(out.folder() / "options.json", options_json_);
    write_text(out.folder() / "fold_report.json", to_json(report_).dump(1) + "\n");
    write_text(out.folder() / "fold_report.svg", to_svg(report_));
    out.commit();
    tell("write", 1);
    return std::move(report_);
  }

 private:
  Context& context() { return model_->context(); }
  void tell(const char* stage, double fraction) const {
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
      return;
    }
    if (options_.recipe.empty()) check_uniform();
  }

  size_t batch_index() const {
    return size_t(std::find(kReportBatches.begin(), kReportBatches.end(), options_.batch) - kReportBatches.begin());
  }

  LayerRecipe uniform_recipe() const {
    LayerRecipe out;
    out.selection = options_.selection.value_or(blueprint_.gated ? SelectionKind::predictor : SelectionKind::range);
    out.lines = options_.lines;
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
    PLEAT_REQUIRE(options_.reduction >= 0 && options_.reduction < 1, "the reduction is a share between 0 and 1, not ",
                  options_.reduction);
    if (recipe.selection == SelectionKind::all) return;
    report_.asked = options_.reduction > 0 ? options_.reduction : default_reduction(recipe.selection);
    const std::string selector = has_predictor(recipe.selection)
                                     ? concat("its ", options_.predictor_bits, "-bit predictor")
                                     : concat("what selection ", name_of(recipe.selection), " reads");
    PLEAT_REQUIRE(exact_for(blueprint_, recipe, report_.asked) > 0, "a reduction of ", report_.asked,
                  " cannot be reached: the fold and ", selector, " leave at most ",
                  std::floor(1000 * (1 - read_share(blueprint_, recipe, 0))) / 1000);
  }

  void calibrate() {
    const Tokenizer tokenizer = Tokenizer::open(options_.model);
    std::vector<Window> windows = spread_windows(tokenizer, options_.text, model_->window(), options_.max_tokens);
    int64_t tokens = 0;
    for (const Window& window : windows) tokens += int64_t(window.size());
    PLEAT_REQUIRE(tokens >= kFewestTokens, "the text '", options_.text, "' has ", tokens, " tokens, at least ",
                  kFewestTokens, " are needed to calibrate");
    report_.calibration_tokens = tokens;
    meter_ = std::make_unique<OptionMeter>(
        *model_, meter_windows(spread_windows(tokenizer, options_.text, model_->window(), 0), windows));
    std::vector<Window> some;
    const size_t count = std::min(kSensitivityWindows, windows.size());
    for (size_t i = 0; i < count; ++i) some.push_back(windows[i * windows.size() / count]);
    const bool shares_exactness =
        options_.budget == 0 && options_.recipe.empty() && has_candidates(uniform_recipe().selection);
    sensitivity_ = shares_exactness
                       ? measure_sensitivity(*model_, some, [&](double done) { tell("sensitivity", done); })
                       : std::vector<double>(size_t(blueprint_.layers), 1.0);  // nothing is weighed across layers
    calibration_ =
        std::make_unique<Calibration>(*model_, std::move(windows), [&](double done) { tell("calibrate", done); });
    report_.sample_rows = calibration_->sample_rows();
    for (int layer = 0; layer < blueprint_.layers; ++layer)
      builders_.emplace_back(context(),
                             LayerBuilder::Source{.ffn = [=, this] { return read_ffn(checkpoint_, blueprint_, layer); },
                                                  .moments = [=, this] { return calibration_->moments(layer); },
                                                  .statistics = calibration_->layer(layer),
                                                  .activation = blueprint_.activation,
                                                  .sensitivity = sensitivity_[size_t(layer)]});
  }

  Plan given_plan() {
    if (!options_.recipe.empty()) return {read_recipe(options_.recipe, blueprint_.layers, blueprint_.gated), {}};
    const LayerRecipe recipe = uniform_recipe();
    return uniform_plan(recipe,
                        recipe.selection == SelectionKind::all ? 1 : exact_for(blueprint_, recipe, report_.asked));
  }

  Plan uniform_plan(LayerRecipe recipe, double exact) {
    Plan plan;
    recipe.exact = exact;
    plan.recipes.assign(size_t(blueprint_.layers), recipe);
    if (!has_candidates(recipe.selection)) return plan;
    std::vector<LayerRanges>& candidates = candidates_[recipe.predictor_bits];
    for (size_t layer = candidates.size(); layer < builders_.size(); ++layer) {
      candidates.push_back(builders_[layer].candidates(recipe));
      builders_[layer].rest();
      tell("candidates", double(layer + 1) / double(builders_.size()));
    }
    plan.choices = choose_ranges(candidates, exact);
    return plan;
  }

  RecipeSearch measured_options() {
    RecipeSearch recipes(blueprint_.gated);
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      recipes.measure_layer(builders_[size_t(layer)], *meter_,
                            [&](double done) { tell("measure options", (layer + done) / blueprint_.layers); });
      builders_[size_t(layer)].rest();
    }
    return recipes;
  }

  // The best recipe under the budget; with a recipe of formats alone beside it, which it must not lose to.
  Plan search() {
    const RecipeSearch recipes = options_.options.empty()
                                     ? measured_options()
                                     : RecipeSearch::read(options_.options, blueprint_.layers, blueprint_.gated);
    options_json_ = recipes.to_json().dump(1) + "\n";
    const double layers = double(blueprint_.layers);
    const ByteCount count{batch_index(), options_.stored};
    const double dense = double(matrix_bytes(WeightFormat::bf16, blueprint_.hidden, blueprint_.neurons)) *
                         (blueprint_.gated ? 3 : 2) * layers;
    const FoundRecipe mixed = recipes.best(options_.budget * dense, count, false);
    const FoundRecipe plain = recipes.best(options_.budget * dense, count, true);
    PLEAT_REQUIRE(!mixed.layers.empty(), "a budget of ", 100 * options_.budget, "% cannot be kept: the least is ",
                  std::ceil(1000 * recipes.smallest(count) / dense) / 10, "%");
    BudgetReport& budget = report_.budget.emplace();
    budget.asked = options_.budget;
    budget.batch = options_.batch;
    budget.stored = options_.stored;
    if (!plain.layers.empty())
      budget.plain = {plain.bytes / dense, plain.predicted, measured_kl({plain.layers, {}}, "measure plain recipe")};
    budget.mixed = {mixed.bytes / dense, mixed.predicted, measured_kl({mixed.layers, {}}, "measure recipe")};
    budget.chose_plain = budget.plain && budget.plain->measured < budget.mixed.measured;
    return {budget.chose_plain ? plain.layers : mixed.layers, {}};
  }

  BuiltLayer build(int layer, const Plan& plan) {
    const size_t l = size_t(layer);
    return builders_[l].build(plan.recipes[l], plan.choices.empty() ? nullptr : &plan.choices[l]);
  }

  double measured_kl(const Plan& plan, const char* stage) {
    std::vector<FoldedLayer> layers;
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      layers.push_back(builders_[size_t(layer)].layer(build(layer, plan)));
      builders_[size_t(layer)].rest();
      tell(stage, double(layer + 1) / double(blueprint_.layers));
    }
    return meter_->kl(pointers_to(layers));
  }

  static std::vector<const FoldedLayer*> pointers_to(const std::vector<FoldedLayer>& layers) {
    std::vector<const FoldedLayer*> out;
    for (const FoldedLayer& layer : layers) out.push_back(&layer);
    return out;
  }

  std::vector<BuiltLayer> fold_layers(const Plan& plan) {
    const double mean_sensitivity =
        std::accumulate(sensitivity_.begin(), sensitivity_.end(), 0.0) / double(sensitivity_.size());
    std::vector<BuiltLayer> out;
    std::vector<LayerMeasurement> measurements;
    std::vector<FoldedLayer> changed;
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      LayerBuilder& builder = builders_[size_t(layer)];
      BuiltLayer built = build(layer, plan);
      measurements.push_back(builder.measure(built));
      measurements.back().report.weight = sensitivity_[size_t(layer)] / mean_sensitivity;
      report_.layers.push_back(measurements.back().report);
      changed.push_back(builder.layer(built));
      if (gathers(built.fold.spec.selection))
        built = reordered(built, balanced_order(measurements.back().frequency, kVirtualShards));
      out.push_back(std::move(built));
      builder.rest();
      tell("fold", double(layer + 1) / double(blueprint_.layers));
    }
    report_.recipe = plan.recipes;
    report_.total = total_of(measurements);
    report_.reduction = 1 - report_.total.read[0] / report_.total.dense;
    report_.kl = meter_->kl(pointers_to(changed));
    measure_plain();
    return out;
  }

  // What plain quantisation gives on the same windows: the honest neighbour of every fold.
  void measure_plain() {
    for (const WeightFormat format : {WeightFormat::int4, WeightFormat::int3}) {
      LayerRecipe recipe;
      recipe.formats = {blueprint_.gated ? format : FfnFormats().gate, format, format};
      const double share = read_share(blueprint_, recipe, 0);
      report_.plain.push_back({std::string(name_of(format)), share,
                               measured_kl({std::vector<LayerRecipe>(size_t(blueprint_.layers), recipe), {}},
                                           format == WeightFormat::int4 ? "plain int4" : "plain int3")});
    }
  }

  void evaluate(const Plan& plan, const std::vector<BuiltLayer>& built) {
    const std::vector<Window> windows = spread_windows(Tokenizer::open(options_.model), options_.evaluation_text,
                                                       model_->window(), options_.evaluation_tokens);
    std::vector<FoldedLayer> layers;
    for (size_t layer = 0; layer < built.size(); ++layer) layers.push_back(builders_[layer].layer(built[layer]));
    const int64_t prompt = prompt_rows(pointers_to(layers));
    FoldedForm with_fold(context(), pointers_to(layers), FfnForm::folded, prompt),
        without(context(), pointers_to(layers), FfnForm::dropped, prompt);
    const std::vector<FfnHook*> hooks = {&with_fold, &without};
    const QualityComparison comparison = compare_with_dense(*model_, windows, hooks);
    report_.evaluation_tokens = comparison.tokens;
    report_.dense_perplexity = comparison.dense_perplexity;
    report_.folded = comparison.variants[0];
    report_.dropped = comparison.variants[1];
    if (options_.budget > 0 || !options_.recipe.empty() || !has_candidates(plan.recipes[0].selection)) return;
    for (const double asked : curve_of(plan.recipes[0].selection)) {
      report_.curve.push_back(curve_point(asked, windows));
      tell("evaluate", double(report_.curve.size()) / double(kCurve.size()));
    }
  }

  CurvePoint curve_point(double asked, const std::vector<Window>& windows) {
    CurvePoint point;
    point.asked = asked;
    LayerRecipe recipe = uniform_recipe();
    if (has_predictor(recipe.selection) && exact_for(blueprint_, recipe, asked) <= 0)
      recipe.predictor_bits = 1;  // its bytes alone are too many
    point.predictor_bits = recipe.predictor_bits;
    point.reachable = exact_for(blueprint_, recipe, asked) > 0;
    if (!point.reachable) return point;
    const Plan plan = uniform_plan(recipe, exact_for(blueprint_, recipe, asked));
    std::vector<FoldedLayer> layers;
    std::vector<LayerMeasurement> measurements;
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      LayerBuilder& builder = builders_[size_t(layer)];
      const BuiltLayer built = build(layer, plan);
      layers.push_back(builder.layer(built));
      measurements.push_back(builder.measure(built));
      builder.rest();
    }
    const LayerReport total = total_of(measurements);
    point.fallback = total.fallback;
    for (size_t i = 0; i < total.read.size(); ++i) point.read[i] = total.read[i] / total.dense;
    point.reduction = 1 - point.read[0];
    FoldedForm form(context(), pointers_to(layers), FfnForm::folded, 1);
    const std::vector<FfnHook*> hooks = {&form};
    point.quality = compare_with_dense(*model_, windows, hooks).variants[0];
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
  std::unique_ptr<DenseModel> model_;
  std::unique_ptr<OptionMeter> meter_;
  std::vector<double> sensitivity_;
  std::unique_ptr<Calibration> calibration_;
  std::vector<LayerBuilder> builders_;                  // [layers]
  std::map<int, std::vector<LayerRanges>> candidates_;  // by the predictor's bits: [layers]
};

}  // namespace

FoldReport fold_model(const FoldOptions& options, const FoldProgress& progress) {
  return Folding(options, progress).run();
}

}  // namespace pleat
