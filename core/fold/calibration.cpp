#include "core/fold/calibration.h"

#include <algorithm>

namespace pleat {
namespace {

constexpr int64_t kSampleRows = 16384;
constexpr int64_t kFewestRows = 1024;
constexpr int64_t kSampleBytes = int64_t(8) << 30;  // of all layers
constexpr int64_t kMomentBytes = int64_t(3) << 30;  // of neurons, held at once

InputStage activations_of(int layer) { return {"gelu", layer}; }

}  // namespace

Calibration::Calibration(DenseModel& model, std::vector<Window> windows, const std::function<void(double)>& done)
    : model_(model), windows_(std::move(windows)) {
  for (const Window& window : windows_) tokens_ += int64_t(window.size());
  const Blueprint& blueprint = model.blueprint();
  const int64_t row_bytes = blueprint.layers * blueprint.hidden * int64_t(sizeof(float));
  statistics_ = std::make_unique<Statistics>(model.context(), blueprint.layers, blueprint.hidden,
                                             tokens_ - int64_t(windows_.size()),
                                             std::clamp(kSampleBytes / row_bytes, kFewestRows, kSampleRows));
  want_moments(0);
  run(statistics_.get(), done);
}

// Of neurons, from a layer on.
void Calibration::want_moments(int layer) {
  const Blueprint& blueprint = model_.blueprint();
  neurons_ = std::make_unique<InputMoments>(model_.context());
  const int64_t bytes = blueprint.neurons * blueprint.neurons * int64_t(sizeof(double));
  const int64_t end = std::min<int64_t>(blueprint.layers, layer + std::max<int64_t>(1, kMomentBytes / bytes));
  for (int l = layer; l < end; ++l) neurons_->want(activations_of(l), blueprint.neurons);
}

void Calibration::run(FfnHook* hook, const std::function<void(double)>& done) {
  model_.set_observer(neurons_.get());
  for (size_t w = 0; w < windows_.size(); ++w) {
    model_.run(windows_[w], hook, false);
    if (done) done(double(w + 1) / double(windows_.size()));
  }
  model_.set_observer(nullptr);
}

FfnMoments Calibration::moments(int layer) {
  if (!neurons_->has(activations_of(layer))) {
    want_moments(layer);
    run(nullptr, {});
  }
  const LayerStatistics& statistics = statistics_->layer(layer);
  return {statistics.second_moment, neurons_->of(activations_of(layer)), statistics.largest,
          neurons_->largest(activations_of(layer))};
}

}  // namespace pleat
