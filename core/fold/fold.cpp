#include "core/fold/fold.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <numeric>

#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/dense_model.h"
#include "core/fold/folded_checkpoint.h"
#include "core/fold/layer_gates.h"
#include "core/fold/layer_ranges.h"
#include "core/fold/layer_report.h"
#include "core/fold/neuron_order.h"
#include "core/fold/quality.h"
#include "core/fold/statistics.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int64_t kSampleRows = 16384;
constexpr int64_t kSampleBytes = int64_t(8) << 30;  // of all layers
constexpr int64_t kFewestTokens = 1024;             // below, the ranges are noise
constexpr size_t kSensitivityWindows = 4;
constexpr std::array<double, 8> kCurve = {.5, .55, .6, .65, .7, .75, .8, .85};
constexpr std::array<double, 8> kGateCurve = {.2, .25, .3, .35, .4, .45, .5, .55};
constexpr std::array<double, 8> kGatePredictorCurve = {.35, .4, .45, .5, .55, .6, .65, .7};

const std::array<double, 8>& curve_of(SelectionKind selection) {
  if (!is_for_gated(selection)) return kCurve;
  return has_predictor(selection) ? kGatePredictorCurve : kGateCurve;
}

struct Candidates {
  std::vector<LowBitRows> predictors;  // [layers] of plain FFNs
  std::vector<LayerGates> gates;       // [layers] of gated FFNs
  std::vector<LayerRanges> ranges;     // [layers] what the budget chooses from
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
    const std::vector<FoldedLayerTensors> layers = fold_layers();
    if (!options_.evaluation_text.empty()) evaluate(layers);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    write_folded_checkpoint(checkpoint_, blueprint_, report_.spec, layers, out.folder());
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
    SelectionKind& selection = report_.spec.selection;
    selection = options_.selection.value_or(blueprint_.gated ? SelectionKind::predictor : SelectionKind::range);
    PLEAT_REQUIRE(is_for_gated(selection) == blueprint_.gated, "'", options_.model, "' has ",
                  blueprint_.gated ? "gated FFNs; the selections for them are gate and predictor"
                                   : "plain FFNs; the selection for them is range");
    PLEAT_REQUIRE(!blueprint_.fold, "'", options_.model, "' is folded already: fold the dense model it was made from");
    PLEAT_REQUIRE(blueprint_.quantised.empty(), "'", options_.model, "' is quantised: fold the model it was made from");
    PLEAT_REQUIRE(options_.predictor_bits >= 1 && options_.predictor_bits <= 3,
                  "the predictor has 1, 2 or 3 bits, not ", options_.predictor_bits);
    PLEAT_REQUIRE(options_.fold_format != WeightFormat::f32, "the fold is stored in int8 or bf16, not f32");
    PLEAT_REQUIRE(options_.reduction >= 0 && options_.reduction < 1, "the reduction is a share between 0 and 1, not ",
                  options_.reduction);
    asked_ = options_.reduction > 0 ? options_.reduction : default_reduction(selection);
    report_.spec.predictor_bits = options_.predictor_bits;
    report_.spec.fold_format = options_.fold_format;
    report_.asked = asked_;
    const std::string selector =
        has_predictor(selection) ? concat("its ", options_.predictor_bits, "-bit predictor") : std::string("the gate");
    PLEAT_REQUIRE(outside_for(options_.predictor_bits, asked_) > 0, "a reduction of ", asked_,
                  " cannot be reached: the fold and ", selector, " leave at most ",
                  std::floor(1000 * largest_reduction(options_.predictor_bits)) / 1000);
  }

  static double default_reduction(SelectionKind selection) {
    if (!is_for_gated(selection)) return 0.8;
    return has_predictor(selection) ? 0.5 : 0.4;
  }

  FfnBytes bytes_with(int bits) const {
    FoldSpec spec = report_.spec;
    spec.predictor_bits = bits;
    return ffn_bytes(spec, blueprint_.hidden, blueprint_.neurons);
  }
  // Nothing falls back.
  double largest_reduction(int bits) const {
    const FfnBytes bytes = bytes_with(bits);
    return 1 - double(bytes.fixed) / double(bytes.dense);
  }
  // The mean share of neurons computed exactly that leaves this reduction, every byte counted.
  double outside_for(int bits, double reduction) const {
    const FfnBytes bytes = bytes_with(bits);
    return (largest_reduction(bits) - reduction) * double(bytes.dense) /
           (double(bytes.per_neuron) * double(blueprint_.neurons));
  }

  void calibrate() {
    const Tokenizer tokenizer = Tokenizer::open(options_.model);
    const std::vector<Window> windows = spread_windows(tokenizer, options_.text, model_->window(), options_.max_tokens);
    int64_t tokens = 0;
    for (const Window& window : windows) tokens += int64_t(window.size());
    PLEAT_REQUIRE(tokens >= kFewestTokens, "the text '", options_.text, "' has ", tokens, " tokens, at least ",
                  kFewestTokens, " are needed to calibrate");
    report_.calibration_tokens = tokens;

    std::vector<Window> some;
    const size_t count = std::min(kSensitivityWindows, windows.size());
    for (size_t i = 0; i < count; ++i) some.push_back(windows[i * windows.size() / count]);
    sensitivity_ = measure_sensitivity(*model_, some, [&](double done) { tell("sensitivity", done); });

    const int64_t row_bytes = blueprint_.layers * blueprint_.hidden * int64_t(sizeof(float));
    statistics_ =
        std::make_unique<Statistics>(context(), blueprint_.layers, blueprint_.hidden, tokens - int64_t(windows.size()),
                                     std::clamp(kSampleBytes / row_bytes, kFewestTokens, kSampleRows));
    for (size_t w = 0; w < windows.size(); ++w) {
      model_->run(windows[w], statistics_.get(), false);
      tell("calibrate", double(w + 1) / double(windows.size()));
    }
    report_.sample_rows = statistics_->sample_rows();
  }

  // Predictors of so many bits and the ranges they allow, of all layers; made when first asked for.
  const Candidates& candidates(int bits) {
    Candidates& out = candidates_[bits];
    for (int layer = int(out.ranges.size()); layer < blueprint_.layers; ++layer) {
      const FfnTensors ffn = read_ffn(checkpoint_, blueprint_, layer);
      const LayerStatistics& statistics = statistics_->layer(layer);
      if (blueprint_.gated) {
        GatePredictors predictors;
        if (has_predictor(report_.spec.selection))
          predictors = {gptq(context(), ffn.gate.view(), statistics.second_moment, bits),
                        gptq(context(), ffn.up.view(), statistics.second_moment, bits)};
        out.gates.push_back(
            fit_layer_gates(context(), ffn, std::move(predictors), blueprint_.activation, statistics.sample));
        out.ranges.push_back(as_ranges(out.gates.back(), sensitivity_[size_t(layer)]));
        tell("gates and lines", double(layer + 1) / blueprint_.layers);
        continue;
      }
      out.predictors.push_back(gptq(context(), ffn.up.view(), statistics.second_moment, bits));
      out.ranges.push_back(fit_layer_ranges(context(), ffn, out.predictors.back(), blueprint_.activation,
                                            statistics.sample, sensitivity_[size_t(layer)]));
      tell("predictor and ranges", double(layer + 1) / blueprint_.layers);
    }
    return out;
  }

  LayerFold build(int layer, const FfnTensors& ffn, const Candidates& candidates, const RangeChoice& choice) {
    const size_t l = size_t(layer);
    if (blueprint_.gated)
      return build_gated_fold(context(), ffn, candidates.gates[l], choice[l][0], blueprint_.activation,
                              statistics_->layer(layer).sample, options_.fold_format);
    return build_fold(context(), ffn, candidates.ranges[l], choice[l], candidates.predictors[l], blueprint_.activation,
                      statistics_->layer(layer).sample, options_.fold_format);
  }

  std::vector<FoldedLayerTensors> fold_layers() {
    const int bits = options_.predictor_bits;
    const Candidates& candidates = this->candidates(bits);
    const RangeChoice choice = choose_ranges(candidates.ranges, outside_for(bits, asked_));
    const double mean_sensitivity =
        std::accumulate(sensitivity_.begin(), sensitivity_.end(), 0.0) / double(sensitivity_.size());
    std::vector<FoldedLayerTensors> out;
    std::vector<LayerMeasurement> measurements;
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      const FfnTensors ffn = read_ffn(checkpoint_, blueprint_, layer);
      const LayerFold fold = build(layer, ffn, candidates, choice);
      const FoldedLayer folded(ffn, fold, blueprint_.activation, WeightFormat::bf16);
      measurements.push_back(measure_layer(context(), folded, statistics_->layer(layer).sample, bytes_with(bits)));
      measurements.back().report.weight = sensitivity_[size_t(layer)] / mean_sensitivity;
      report_.layers.push_back(measurements.back().report);
      std::vector<int32_t> order = balanced_order(measurements.back().frequency, kVirtualShards);
      out.push_back({reordered(fold, order), std::move(order)});
      tell("fold", double(layer + 1) / blueprint_.layers);
    }
    report_.total = total_of(measurements);
    report_.spec.reduction = 1 - report_.total.read[0] / report_.total.dense;
    return out;
  }

  void evaluate(const std::vector<FoldedLayerTensors>& layers) {
    const std::vector<Window> windows = spread_windows(Tokenizer::open(options_.model), options_.evaluation_text,
                                                       model_->window(), options_.evaluation_tokens);
    std::vector<FoldedLayer> folded;
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      const FoldedLayerTensors& tensors = layers[size_t(layer)];
      folded.emplace_back(reordered(read_ffn(checkpoint_, blueprint_, layer), tensors.order), tensors.fold,
                          blueprint_.activation, WeightFormat::bf16);
    }
    FoldedForm with_fold(context(), folded, FfnForm::folded), without(context(), folded, FfnForm::dropped);
    const std::vector<FfnHook*> hooks = {&with_fold, &without};
    const QualityComparison comparison = compare_with_dense(*model_, windows, hooks);
    report_.evaluation_tokens = comparison.tokens;
    report_.dense_perplexity = comparison.dense_perplexity;
    report_.folded = comparison.variants[0];
    report_.dropped = comparison.variants[1];
    for (double asked : curve_of(report_.spec.selection)) {
      report_.curve.push_back(curve_point(asked, windows));
      tell("evaluate", double(report_.curve.size()) / double(kCurve.size()));
    }
  }

  CurvePoint curve_point(double asked, const std::vector<Window>& windows) {
    CurvePoint point;
    point.asked = asked;
    int bits = options_.predictor_bits;
    if (has_predictor(report_.spec.selection) && outside_for(bits, asked) <= 0)
      bits = 1;  // its bytes alone are too many
    point.predictor_bits = bits;
    point.reachable = outside_for(bits, asked) > 0;
    if (!point.reachable) return point;
    const Candidates& candidates = this->candidates(bits);
    const RangeChoice choice = choose_ranges(candidates.ranges, outside_for(bits, asked));
    std::vector<FoldedLayer> folded;
    std::vector<LayerMeasurement> measurements;
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      const FfnTensors ffn = read_ffn(checkpoint_, blueprint_, layer);
      folded.emplace_back(ffn, build(layer, ffn, candidates, choice), blueprint_.activation, WeightFormat::bf16);
      measurements.push_back(
          measure_layer(context(), folded.back(), statistics_->layer(layer).sample, bytes_with(bits)));
    }
    const LayerReport total = total_of(measurements);
    point.fallback = total.fallback;
    for (size_t i = 0; i < total.read.size(); ++i) point.read[i] = total.read[i] / total.dense;
    point.reduction = 1 - point.read[0];
    FoldedForm form(context(), folded, FfnForm::folded);
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
  double asked_ = 0;  // reduction
  std::unique_ptr<DenseModel> model_;
  std::vector<double> sensitivity_;
  std::unique_ptr<Statistics> statistics_;
  std::map<int, Candidates> candidates_;
};

}  // namespace

FoldReport fold_model(const FoldOptions& options, const FoldProgress& progress) {
  return Folding(options, progress).run();
}

}  // namespace pleat
