#include "core/fold/layer_set.h"

#include <algorithm>
#include <numeric>

#include "core/fold/quality.h"

namespace pleat {
namespace {

constexpr size_t kSensitivityWindows = 4;

std::vector<Window> some_of(const std::vector<Window>& windows, size_t most) {
  std::vector<Window> out;
  const size_t count = std::min(most, windows.size());
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) out.push_back(windows[i * windows.size() / count]);
  return out;
}

}  // namespace

bool shares_budget(SelectionKind selection) {
  return selection == SelectionKind::range || selection == SelectionKind::gate || selection == SelectionKind::predictor;
}

std::vector<const FoldedLayer*> pointers_to(const std::vector<FoldedLayer>& layers) {
  std::vector<const FoldedLayer*> out;
  out.reserve(layers.size());
  for (const FoldedLayer& layer : layers) out.push_back(&layer);
  return out;
}

LayerSet::LayerSet(DenseModel& model, const Source& source, Progress progress) : progress_(std::move(progress)) {
  const auto tell = [this](const char* stage) { return [=, this](double done) { progress_(stage, done); }; };
  std::vector<Window> windows = calibration_windows(source.tokenizer, source.text, model.window(), source.max_tokens);
  MeterWindows metered =
      meter_windows(spread_windows(source.tokenizer, source.text, model.window(), 0), windows, kFewestTokens);
  meters_fitted_ = metered.fitted;
  meter_ = std::make_unique<OptionMeter>(model, std::move(metered.windows));
  sensitivity_ = source.weighs ? measure_sensitivity(model, some_of(windows, kSensitivityWindows), tell("sensitivity"))
                               : std::vector<double>(size_t(source.blueprint.layers), 1.0);
  calibration_ = std::make_unique<Calibration>(model, std::move(windows), tell("calibrate"));
  for (int layer = 0; layer < source.blueprint.layers; ++layer)
    builders_.emplace_back(model.context(),
                           LayerBuilder::Source{.ffn = [&checkpoint = source.checkpoint, &blueprint = source.blueprint,
                                                        layer] { return read_ffn(checkpoint, blueprint, layer); },
                                                .moments = [=, this] { return calibration_->moments(layer); },
                                                .statistics = calibration_->layer(layer),
                                                .activation = source.blueprint.activation,
                                                .sensitivity = sensitivity_[size_t(layer)]});
}

double LayerSet::weight(int layer) const {
  const double sum = std::accumulate(sensitivity_.begin(), sensitivity_.end(), 0.0);
  return sensitivity_[size_t(layer)] / (sum / double(sensitivity_.size()));
}

LayerPlan LayerSet::plan(LayerRecipe recipe, double exact) {
  LayerPlan out;
  recipe.exact = exact;
  out.recipes.assign(builders_.size(), recipe);
  if (!shares_budget(recipe.selection)) return out;
  std::vector<LayerRanges>& candidates = candidates_[recipe.predictor_bits];
  for (size_t layer = candidates.size(); layer < builders_.size(); ++layer) {
    candidates.push_back(builders_[layer].candidates(recipe));
    builders_[layer].rest();
    progress_("candidates", double(layer + 1) / layers());
  }
  out.choices = choose_ranges(candidates, exact);
  return out;
}

void LayerSet::make(const LayerPlan& plan, const std::string& stage, const std::function<void(int, BuiltLayer)>& use) {
  for (int layer = 0; layer < layers(); ++layer) {
    const size_t l = size_t(layer);
    use(layer, builders_[l].build(plan.recipes[l], plan.choices.empty() ? nullptr : &plan.choices[l]));
    builders_[l].rest();
    progress_(stage, double(layer + 1) / layers());
  }
}

double LayerSet::kl(const LayerPlan& plan, const std::string& stage) {
  std::vector<FoldedLayer> made;
  make(plan, stage, [&](int layer, const BuiltLayer& built) { made.push_back(builder(layer).layer(built)); });
  return meter_->kl(pointers_to(made));
}

}  // namespace pleat
