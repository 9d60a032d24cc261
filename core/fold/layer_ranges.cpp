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
  Table c = fold_weight(ctx, ffn, out.slope);
  out.bias = fold_bias(ffn, out.slope, out.intercept);
  out.fold = store_fold(c, format);

  const FoldedLayer layer(ffn, out, activation, WeightFormat::bf16);
  const Table z = layer.exact(ctx, sample.view()), predicted = layer.predicted(ctx, sample.view());
  Table missing = layer.output(ctx, FfnForm::dense, sample.view(), z, predicted);
  const Table folded = layer.output(ctx, FfnForm::folded, sample.view(), z, predicted);
  for (size_t i = 0; i < missing.data.size(); ++i) missing.data[i] -= folded.data[i];
  const FoldCorrection correction = correct_fold(ctx, sample, missing);
  for (size_t i = 0; i < c.data.size(); ++i) c.data[i] += correction.weight.data[i];
  for (size_t i = 0; i < out.bias.size(); ++i) out.bias[i] += correction.bias[i];
  out.fold = store_fold(c, format);
  return out;
}

LayerFold reordered(const LayerFold& fold, std::span<const int32_t> order) {
  LayerFold out = fold;
  const LowBitRows& from = fold.predictor;
  for (size_t place = 0; place < order.size(); ++place) {
    const size_t old = size_t(order[place]);
    out.low[place] = fold.low[old];
    out.high[place] = fold.high[old];
    out.slope[place] = fold.slope[old];
    out.intercept[place] = fold.intercept[old];
    const auto copy_row = [&](auto& to, const auto& values, int64_t width) {
      std::copy_n(values.begin() + int64_t(old) * width, width, to.begin() + int64_t(place) * width);
    };
    copy_row(out.predictor.codes, from.codes, from.code_bytes());
    copy_row(out.predictor.scale, from.scale, from.groups());
    copy_row(out.predictor.minimum, from.minimum, from.groups());
  }
  return out;
}

FfnTensors reordered(const FfnTensors& ffn, std::span<const int32_t> order) {
  FfnTensors out = ffn;
  for (size_t place = 0; place < order.size(); ++place) {
    const int64_t old = order[place];
    std::copy_n(ffn.up[old], ffn.hidden(), out.up[int64_t(place)]);
    std::copy_n(ffn.down[old], ffn.hidden(), out.down[int64_t(place)]);
    out.up_bias[place] = ffn.up_bias[size_t(old)];
  }
  return out;
}

}  // namespace pleat
