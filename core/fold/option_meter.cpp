#include "core/fold/option_meter.h"

#include <algorithm>
#include <cstring>

#include "core/fold/quality.h"

namespace pleat {
namespace {

// The residual stream in front of a layer is what the one before left; where norms stand behind the sub-layers, that
// one's last norm has changed it since, and it is what attention multiplies.
class Streams : public StageObserver {
 public:
  Streams(NormPlace norm, std::vector<Table>& streams) : norm_(norm), streams_(streams) {}
  void stage(const char* name, int layer, MatrixView<const float> value) override {
    const bool after = norm_ == NormPlace::after;
    const size_t to = size_t(after ? layer : layer + 1);
    if (std::strcmp(name, after ? "ln1" : layer < 0 ? "x" : "mlpResid") != 0 || to >= streams_.size()) return;
    streams_[to] = Table(value.rows, value.cols);
    for (int64_t row = 0; row < value.rows; ++row) std::copy_n(value[row], value.cols, streams_[to][row]);
  }

 private:
  NormPlace norm_;
  std::vector<Table>& streams_;
};

}  // namespace

MeterWindows meter_windows(const std::vector<Window>& all, std::vector<Window>& fit, int64_t fewest) {
  constexpr size_t kWindows = 2, kTokens = 256;
  const auto holds = [](const std::vector<Window>& windows, const Window& window) {
    return std::find(windows.begin(), windows.end(), window) != windows.end();
  };
  std::vector<Window> whole, free;
  for (const Window& window : all) {
    if (window.size() != all[0].size()) continue;
    whole.push_back(window);
    if (!holds(fit, window)) free.push_back(window);
  }
  const bool takes = free.empty();
  const std::vector<Window>& from = takes ? whole : free;
  MeterWindows out;
  const size_t count = std::min(kWindows, takes ? std::max<size_t>(1, from.size() / 4) : from.size());
  for (size_t i = 0; i < count; ++i) out.windows.push_back(from[(2 * i + 1) * from.size() / (2 * count)]);
  if (takes) {
    std::vector<Window> rest = fit;
    std::erase_if(rest, [&](const Window& window) { return holds(out.windows, window); });
    out.fitted = tokens_of(rest) < fewest;
    if (!out.fitted) fit = std::move(rest);
  }
  for (Window& window : out.windows) window.resize(std::min(window.size(), kTokens));
  return out;
}

OptionMeter::OptionMeter(DenseModel& model, std::vector<Window> windows) : model_(model) {
  for (Window& window : windows) {
    Run& run = runs_.emplace_back();
    run.window = std::move(window);
    run.streams.resize(size_t(model.blueprint().layers));
    Streams streams(model.blueprint().norm_place, run.streams);
    model.set_observer(&streams);
    const MatrixView<const float> logits = model.run(run.window, nullptr, true);
    model.set_observer(nullptr);
    run.logits = keep_logits(model.context().team(), logits, int64_t(run.window.size()) - 1);
  }
}

double OptionMeter::kl(int layer, const FoldedLayer& changed) {
  std::vector<const FoldedLayer*> layers(size_t(model_.blueprint().layers), nullptr);
  layers[size_t(layer)] = &changed;
  return kl_from(layer, layers, 0);
}

double OptionMeter::kl(const std::vector<const FoldedLayer*>& layers, int64_t first) {
  return kl_from(0, layers, first);
}

double OptionMeter::kl_from(int layer, const std::vector<const FoldedLayer*>& layers, int64_t first) {
  const int64_t prompt = prompt_rows(layers, model_.window());
  FoldedForm form(model_.context(), layers, FfnForm::folded, prompt);
  Divergence sum;
  for (const Run& run : runs_) {
    const std::span<const int32_t> next = std::span(run.window).subspan(1);
    const MatrixView<const float> logits = model_.resume(run.window, layer, run.streams[size_t(layer)].view(), &form);
    sum += compare_logits(model_.context().team(), run.logits, logits, next, std::max(first, prompt));
  }
  return means_of(sum).kl;
}

}  // namespace pleat
