#include "core/fold/layer_ranges.h"

#include <algorithm>

namespace pleat {
namespace {

constexpr int64_t kNeuronBlock = 256;  // neurons whose z of all sample rows are held at once

double squared_norm(const float* row, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double(row[i]) * row[i];
  return sum;
}

}  // namespace

LayerRanges fit_layer_ranges(Context& ctx, const FfnTensors& ffn, const LowBitRows& predictor, Activation activation,
                             const Table& sample, double layer_weight) {
  const int64_t h = ffn.neurons(), d = ffn.hidden(), rows = sample.rows;
  const PackedMatrix inputs = packed_transposed(WeightFormat::f32, sample.view());  // x^T [d, rows]
  LayerRanges out;
  out.neurons.resize(size_t(h));
  for (int64_t n = 0; n < h; ++n) out.weight.push_back(layer_weight * squared_norm(ffn.down[n], d));

  for (int64_t begin = 0; begin < h; begin += kNeuronBlock) {
    const int64_t end = std::min(begin + kNeuronBlock, h), count = end - begin;
    Table z(count, rows), by_row(rows, count);
    matmul(ctx, ffn.up.slice(begin, end), inputs, nullptr, z.view());
    predict(ctx, sample.view(), predictor.packed(begin, end), ffn.up_bias.data() + begin, by_row.view());
    const Table predicted = transposed(by_row.view());
    ctx.team().each(count, [&](int, int64_t n) {
      const float bias = ffn.up_bias[size_t(begin + n)];
      for (int64_t row = 0; row < rows; ++row) z[n][row] += bias;
      std::vector<float> activated(z[n], z[n] + rows);
      activate(ctx.isa(), activation, activated.data(), rows);
      const size_t length = size_t(rows);
      out.neurons[size_t(begin + n)] = grow_ranges({predicted[n], length}, {z[n], length}, activated);
    });
  }
  return out;
}

LayerFold build_fold(Context& ctx, const FfnTensors& ffn, const LayerRanges& ranges, std::span<const uint8_t> choice,
                     const LowBitRows& predictor, Activation activation, const Table& sample, WeightFormat format) {
  LayerFold out;
  out.predictor = predictor;
  for (size_t n = 0; n < choice.size(); ++n) {
    const NeuronRange& range = ranges.neurons[n][choice[n]];
    out.low.push_back(range.low);
    out.high.push_back(range.high);
    out.slope.push_back(range.slope);
    out.intercept.push_back(range.intercept);
  }
  finish_fold(ctx, ffn, activation, sample, format, out);
  return out;
}

void finish_fold(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& sample, WeightFormat format,
                 LayerFold& lines) {
  Table c = fold_weight(ctx, ffn, lines);
  lines.bias = fold_bias(ffn, lines);
  lines.fold = store_fold(ctx, c, format);

  const FoldedLayer layer(ffn, lines, activation, WeightFormat::bf16);
  const FoldedLayer::Neurons neurons = layer.neurons(ctx, sample.view());
  Table missing = layer.output(ctx, FfnForm::dense, sample.view(), neurons);
  const Table folded = layer.output(ctx, FfnForm::folded, sample.view(), neurons);
  for (size_t i = 0; i < missing.data.size(); ++i) missing.data[i] -= folded.data[i];
  const FoldCorrection correction = correct_fold(ctx, sample, missing);
  for (size_t i = 0; i < c.data.size(); ++i) c.data[i] += correction.weight.data[i];
  for (size_t i = 0; i < lines.bias.size(); ++i) lines.bias[i] += correction.bias[i];
  lines.fold = store_fold(ctx, c, format);
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
  move(out.factor, fold.factor, 1);
  const auto move_predictor = [&](LowBitRows& to, const LowBitRows& from) {
    move(to.codes, from.codes, from.code_bytes());
    move(to.scale, from.scale, from.groups());
    move(to.minimum, from.minimum, from.groups());
  };
  move_predictor(out.predictor, fold.predictor);
  move_predictor(out.gate_predictor, fold.gate_predictor);
  return out;
}

FfnTensors reordered(const FfnTensors& ffn, std::span<const int32_t> order) {
  FfnTensors out = ffn;
  for (size_t place = 0; place < order.size(); ++place) {
    const int64_t old = order[place];
    std::copy_n(ffn.up[old], ffn.hidden(), out.up[int64_t(place)]);
    std::copy_n(ffn.down[old], ffn.hidden(), out.down[int64_t(place)]);
    out.up_bias[place] = ffn.up_bias[size_t(old)];
    if (!ffn.gated()) continue;
    std::copy_n(ffn.gate[old], ffn.hidden(), out.gate[int64_t(place)]);
    out.gate_bias[place] = ffn.gate_bias[size_t(old)];
  }
  return out;
}

}  // namespace pleat
