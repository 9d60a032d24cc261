#pragma once
// One layer's FFN made after a recipe. Quantised matrices, predictors and ranges are made once and kept for the next
// recipes of the same layer.
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/fold/ffn_quantiser.h"
#include "core/fold/layer_gates.h"
#include "core/fold/layer_ranges.h"
#include "core/fold/layer_recipe.h"
#include "core/fold/layer_report.h"
#include "core/fold/statistics.h"

namespace pleat {

// What a folded checkpoint holds of a layer.
struct BuiltLayer {
  LayerFold fold;
  QuantisedFfn weights;
  std::vector<int32_t> neurons;  // of the dense checkpoint, in this order (all, but for selection static)
  int64_t dense_neurons = 0;     // that the dense layer has
  FfnBytes bytes() const;
};
BuiltLayer reordered(const BuiltLayer& built, std::span<const int32_t> order);

class LayerBuilder {
 public:
  struct Source {
    std::function<FfnTensors()> ffn;
    std::function<FfnMoments()> moments;  // asked for where matrices are quantised, or neurons left out
    const LayerStatistics& statistics;
    Activation activation;
    double sensitivity = 1;  // what a squared error of the layer's output costs
  };
  LayerBuilder(Context& ctx, Source source) : ctx_(ctx), source_(std::move(source)) {}

  // What a global budget over layers chooses from: a range for each neuron, or one candidate of the whole layer (gate,
  // predictor). Only for these selections and range.
  LayerRanges candidates(const LayerRecipe& recipe);

  // choice: of candidates(); nullptr: the one that recipe.exact asks for.
  BuiltLayer build(const LayerRecipe& recipe, const std::vector<uint8_t>* choice = nullptr);

  const Table& sample() const { return source_.statistics.sample; }
  const Table& wanted();  // [sample rows, d] the dense output
  FoldedLayer layer(const BuiltLayer& built) const;
  LayerMeasurement measure(const BuiltLayer& built);

  // Until the next call holds only what took long to make.
  void rest();
  // Matrices in low bits too: each format that was tried is 2 to 8 bits a weight.
  void forget_quantised() { quantised_.clear(); }

 private:
  struct Ranges {
    LowBitRows predictor;
    LayerRanges ranges;
  };
  using Key = std::string;
  const FfnTensors& ffn();
  const FfnMoments& moments();
  const QuantisedFfn& quantised(const FfnFormats& formats, bool by_neuron, bool by_input);
  const LowBitRows& predictor(bool of_gate, int bits);
  const Ranges& ranges(const LayerRecipe& recipe);
  // shares: shares_through() one.
  const LayerGates& gates(const LayerRecipe& recipe, std::span<const double> shares);
  // The selection and the cut of the inputs.
  LayerFold begun(const LayerRecipe& recipe) const;
  BuiltLayer build_hot(const LayerRecipe& recipe);
  LayerFold fold(const LayerRecipe& recipe, const QuantisedFfn& weights, const std::vector<uint8_t>* choice);
  FoldForm form(const LayerRecipe& recipe, const QuantisedFfn& weights);

  Context& ctx_;
  Source source_;
  std::optional<FfnTensors> ffn_;
  std::optional<FfnMoments> moments_;
  std::optional<Table> wanted_;
  std::map<Key, QuantisedFfn> quantised_;
  std::map<std::pair<bool, int>, LowBitRows> predictors_;
  std::map<Key, Ranges> ranges_;
  std::map<Key, LayerGates> gates_;
  std::optional<std::pair<LayerRecipe, LayerFold>> last_;  // a recipe is often measured, then written
};

}  // namespace pleat
