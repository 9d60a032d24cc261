#pragma once
// All layers of a dense model on the bench: calibrated on a text, and made after a plan.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/fold/calibration.h"
#include "core/fold/layer_builder.h"
#include "core/fold/option_meter.h"

namespace pleat {

// Each layer's recipe; choices: of the builders' candidates, or empty.
struct LayerPlan {
  std::vector<LayerRecipe> recipes;
  RangeChoice choices;
};

// Whose exact share one budget spreads over layers and neurons.
bool shares_budget(SelectionKind selection);

std::vector<const FoldedLayer*> pointers_to(const std::vector<FoldedLayer>& layers);

class LayerSet {
 public:
  using Progress = std::function<void(const std::string& stage, double fraction)>;
  struct Source {
    const Checkpoint& checkpoint;
    const Blueprint& blueprint;
    const Tokenizer& tokenizer;
    std::string text;    // to calibrate on
    int64_t max_tokens;  // of it, spread over the text; 0: all
    bool weighs;         // measure what an error of each layer costs, for a budget that layers share
  };
  // Error(invalid) where the text is too short. All references must live as long as this.
  LayerSet(DenseModel& model, const Source& source, Progress progress);

  int64_t tokens() const { return calibration_->tokens(); }
  int64_t sample_rows() const { return calibration_->sample_rows(); }
  OptionMeter& meter() { return *meter_; }
  LayerBuilder& builder(int layer) { return builders_[size_t(layer)]; }
  bool meters_fitted() const { return meters_fitted_; }  // kl() is of text that was fitted on
  double weight(int layer) const;                        // against the layers' mean; 1 where they were not weighed

  // One recipe for all layers.
  LayerPlan plan(LayerRecipe recipe, double exact);

  // Makes one layer after the other.
  void make(const LayerPlan& plan, const std::string& stage, const std::function<void(int layer, BuiltLayer)>& use);
  // KL of the model made after a plan, see OptionMeter.
  double kl(const LayerPlan& plan, const std::string& stage);

 private:
  int layers() const { return int(builders_.size()); }

  Progress progress_;
  bool meters_fitted_ = false;
  std::vector<double> sensitivity_;
  std::unique_ptr<OptionMeter> meter_;
  std::unique_ptr<Calibration> calibration_;
  std::vector<LayerBuilder> builders_;                  // [layers]
  std::map<int, std::vector<LayerRanges>> candidates_;  // by the predictor's bits: [layers]
};

}  // namespace pleat
