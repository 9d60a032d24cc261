#include "core/fold/layer_builder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/fold/hot_neurons.h"
#include "core/fold/input_moments.h"
#include "core/fold/selected_lines.h"
#include "kernels/check.h"

namespace pleat {
namespace {

std::vector<int32_t> all_neurons(int64_t count) {
  std::vector<int32_t> out(static_cast<size_t>(count));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

std::string key_of(const FfnFormats& formats, bool flag, bool by_input = false) {
  return concat(name_of(formats.gate), name_of(formats.up), name_of(formats.down), flag, by_input);
}

}  // namespace

FfnBytes BuiltLayer::bytes() const {
  const FfnTensors& ffn = weights.values;
  return ffn_bytes(fold.spec, weights.formats, ffn.gated(), ffn.hidden(), dense_neurons,
                   {protected_count(weights.gate), protected_count(weights.up), protected_count(weights.down)});
}

BuiltLayer reordered(const BuiltLayer& built, std::span<const int32_t> order) {
  BuiltLayer out{reordered(built.fold, order), reordered(built.weights, order), {}, built.dense_neurons};
  for (const int32_t place : order) out.neurons.push_back(built.neurons[size_t(place)]);
  return out;
}

const FfnTensors& LayerBuilder::ffn() {
  if (!ffn_) ffn_ = source_.ffn();
  return *ffn_;
}

const FfnMoments& LayerBuilder::moments() {
  if (!moments_) moments_ = source_.moments();
  return *moments_;
}

void LayerBuilder::rest() {
  ffn_.reset();
  moments_.reset();
  wanted_.reset();
  for (auto& [key, quantised] : quantised_) quantised.forget_values();
}

const Table& LayerBuilder::wanted() {
  if (!wanted_) {
    LayerFold all;
    all.spec = {.selection = SelectionKind::all, .lines = false};
    all.bias = ffn().down_bias;
    wanted_ =
        FoldedLayer(ffn(), all, source_.activation, WeightFormat::bf16).output(ctx_, FfnForm::dense, sample().view());
  }
  return *wanted_;
}

FoldedLayer LayerBuilder::layer(const BuiltLayer& built) const {
  return {built.weights.values, built.fold, source_.activation,
          built.weights.is_low_bit() ? WeightFormat::f32 : WeightFormat::bf16};
}

LayerMeasurement LayerBuilder::measure(const BuiltLayer& built) {
  return measure_layer(ctx_, layer(built), sample(), wanted(), built.bytes(), built.dense_neurons);
}

const QuantisedFfn& LayerBuilder::quantised(const FfnFormats& formats, bool by_neuron, bool by_input) {
  const auto [it, fresh] = quantised_.try_emplace(key_of(formats, by_neuron, by_input));
  if (fresh)
    it->second =
        quantise_ffn(ctx_, ffn(), formats == FfnFormats() ? FfnMoments() : moments(), formats, by_neuron, by_input);
  it->second.restore_values(ffn());
  return it->second;
}

const LowBitRows& LayerBuilder::predictor(bool of_gate, int bits) {
  const auto [it, fresh] = predictors_.try_emplace({of_gate, bits});
  if (fresh) it->second = gptq(ctx_, (of_gate ? ffn().gate : ffn().up).view(), source_.statistics.second_moment, bits);
  return it->second;
}

const LayerBuilder::Ranges& LayerBuilder::ranges(const LayerRecipe& recipe) {
  const auto [it, fresh] = ranges_.try_emplace(concat(key_of(recipe.formats, true), recipe.predictor_bits));
  if (!fresh) return it->second;
  it->second.predictor = predictor(false, recipe.predictor_bits);
  it->second.ranges = fit_layer_ranges(ctx_, quantised(recipe.formats, true, false).values, it->second.predictor,
                                       source_.activation, sample(), source_.sensitivity);
  return it->second;
}

const LayerGates& LayerBuilder::gates(const LayerRecipe& recipe, std::span<const double> shares) {
  const auto [it, fresh] = gates_.try_emplace(concat(key_of(recipe.formats, recipe.lines), name_of(recipe.selection),
                                                     recipe.predictor_bits, ' ', shares.size(), ' ', shares.back()));
  if (!fresh) return it->second;
  GatePredictors predictors;
  if (recipe.selection == SelectionKind::predictor)
    predictors = {predictor(true, recipe.predictor_bits), predictor(false, recipe.predictor_bits)};
  it->second = fit_layer_gates(ctx_, quantised(recipe.formats, true, false).values, recipe.lines, std::move(predictors),
                               source_.activation, sample(), shares);
  return it->second;
}

LayerRanges LayerBuilder::candidates(const LayerRecipe& recipe) {
  if (recipe.selection == SelectionKind::range) return ranges(recipe).ranges;
  return as_ranges(gates(recipe, kOutsideShares), source_.sensitivity);
}

FoldForm LayerBuilder::form(const LayerRecipe& recipe, const QuantisedFfn& weights) {
  return {recipe.fold_format, recipe.lines, weights.is_low_bit() || recipe.cuts_inputs() ? &wanted() : nullptr, {}};
}

LayerFold LayerBuilder::begun(const LayerRecipe& recipe) const {
  LayerFold out;
  out.spec = {.selection = recipe.selection, .cuts_inputs = recipe.cuts_inputs()};
  if (recipe.cuts_inputs()) out.input_threshold = magnitude_above(sample(), recipe.inputs);
  return out;
}

BuiltLayer LayerBuilder::build(const LayerRecipe& recipe, const std::vector<uint8_t>* choice) {
  if (recipe.selection == SelectionKind::hot) return build_hot(recipe);
  const QuantisedFfn& weights = quantised(recipe.formats, gathers(recipe.selection), recipe.cuts_inputs());
  const auto with = [&](const LayerFold& fold) {
    return BuiltLayer{fold, weights, all_neurons(ffn().neurons()), ffn().neurons()};
  };
  if (choice) return with(fold(recipe, weights, choice));
  if (!last_ || last_->first != recipe) last_ = {recipe, fold(recipe, weights, nullptr)};
  return with(last_->second);
}

LayerFold LayerBuilder::fold(const LayerRecipe& recipe, const QuantisedFfn& weights,
                             const std::vector<uint8_t>* choice) {
  switch (recipe.selection) {
    case SelectionKind::all:
    case SelectionKind::hot:
      break;
    case SelectionKind::range: {
      const Ranges& mine = ranges(recipe);
      const RangeChoice own = choice ? RangeChoice{*choice} : choose_ranges({mine.ranges}, recipe.exact);
      return build_fold(ctx_, weights.values, mine.ranges, own[0], mine.predictor, source_.activation, sample(),
                        form(recipe, weights));
    }
    case SelectionKind::gate:
    case SelectionKind::predictor: {
      const double share = choice ? kOutsideShares[(*choice)[0]] : recipe.exact;
      const std::vector<double> shares = shares_through(share);
      const auto place = size_t(std::lower_bound(shares.begin(), shares.end(), share) - shares.begin());
      return build_gated_fold(ctx_, weights.values, gates(recipe, shares), place, source_.activation, sample(),
                              form(recipe, weights));
    }
    case SelectionKind::threshold:
    case SelectionKind::prompt:
    case SelectionKind::core:
      return build_selected_fold(ctx_, weights.values, begun(recipe), recipe.exact, source_.activation, sample(),
                                 form(recipe, weights));
  }
  LayerFold out = begun(recipe);
  out.spec.lines = false;
  out.bias = ffn().down_bias;
  return out;
}

BuiltLayer LayerBuilder::build_hot(const LayerRecipe& recipe) {
  const int64_t all = ffn().neurons(), count = std::clamp<int64_t>(std::llround(recipe.exact * double(all)), 1, all);
  BuiltLayer out;
  out.dense_neurons = all;
  out.neurons = hot_neurons(ctx_, ffn(), source_.activation, sample(), count, recipe.lines,
                            extreme_inputs(moments().largest_neurons));
  out.weights = quantise_ffn(ctx_, reordered(ffn(), out.neurons), some_neurons(moments(), out.neurons), recipe.formats,
                             false, recipe.cuts_inputs());
  out.fold = begun(recipe);
  out.fold.spec.neurons = int64_t(out.neurons.size());
  const FoldForm kept{recipe.fold_format, recipe.lines, &wanted(), {}};
  finish_fold(ctx_, out.weights.values, source_.activation, sample(), kept, out.fold);
  return out;
}

}  // namespace pleat
