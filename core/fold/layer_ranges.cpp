#include "core/fold/layer_ranges.h"
#include "kernels/context.h"

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
                     const LowBitRows& predictor, Activation activation, const Table& sample, const FoldForm& form) {
  LayerFold out;
  out.spec.predictor_bits = predictor.bits;
  out.predictor = predictor;
  for (size_t n = 0; n < choice.size(); ++n) {
    const NeuronRange& range = ranges.neurons[n][choice[n]];
    out.low.push_back(range.low);
    out.high.push_back(range.high);
    out.slope.push_back(range.slope);
    out.intercept.push_back(range.intercept);
  }
  finish_fold(ctx, ffn, activation, sample, form, out);
  return out;
}

}  // namespace pleat
