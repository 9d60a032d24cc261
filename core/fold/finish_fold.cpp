#include <algorithm>

#include "core/fold/layer_fold.h"

namespace pleat {

void finish_fold(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& sample, const FoldForm& form,
                 LayerFold& lines) {
  lines.spec.lines = form.lines;
  lines.spec.fold_format = form.format;
  if (!form.lines) {
    for (std::vector<float>* line : {&lines.slope, &lines.intercept, &lines.gate_slope}) line->clear();
    lines.bias = ffn.down_bias;
    return;
  }
  Table c = fold_weight(ctx, ffn, lines);
  lines.bias = fold_bias(ffn, lines);
  lines.fold = store_fold(ctx, c, form.format);

  const FoldedLayer layer(ffn, lines, activation, form.wanted ? WeightFormat::f32 : WeightFormat::bf16);
  const FoldedLayer::Neurons neurons = layer.neurons(ctx, sample.view(), form.blocks);
  Table missing = form.wanted ? *form.wanted : layer.output(ctx, FfnForm::dense, sample.view(), neurons);
  const Table folded = layer.output(ctx, FfnForm::folded, sample.view(), neurons);
  for (size_t i = 0; i < missing.data.size(); ++i) missing.data[i] -= folded.data[i];
  const FoldCorrection correction = correct_fold(ctx, sample, missing);
  for (size_t i = 0; i < c.data.size(); ++i) c.data[i] += correction.weight.data[i];
  for (size_t i = 0; i < lines.bias.size(); ++i) lines.bias[i] += correction.bias[i];
  lines.fold = store_fold(ctx, c, form.format);
}

LayerFold reordered(const LayerFold& fold, std::span<const int32_t> order) {
  LayerFold out = fold;
  const auto move = [&](auto& to, const auto& values, int64_t width) {
    for (size_t place = 0; place < order.size() && !values.empty(); ++place)
      std::copy_n(values.begin() + int64_t(order[place]) * width, width, to.begin() + int64_t(place) * width);
  };
  move(out.low, fold.low, 1);
  move(out.high, fold.high, 1);
  move(out.slope, fold.slope, 1);
  move(out.intercept, fold.intercept, 1);
  move(out.gate_slope, fold.gate_slope, 1);
  move(out.center, fold.center, 1);
  move(out.factor, fold.factor, 1);
  out.predictor = reordered(fold.predictor, order);
  out.gate_predictor = reordered(fold.gate_predictor, order);
  return out;
}

}  // namespace pleat
