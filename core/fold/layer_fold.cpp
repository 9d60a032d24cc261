#include "core/fold/layer_fold.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"

namespace pleat {

StoredFold store_fold(const Table& c, WeightFormat format) {
  PLEAT_ASSERT(format == WeightFormat::int8 || format == WeightFormat::bf16);
  StoredFold out;
  out.format = format;
  out.value = Table(c.rows, c.cols);
  if (format == WeightFormat::bf16) {
    out.weight.resize(c.data.size());
    for (size_t i = 0; i < c.data.size(); ++i) {
      out.weight[i] = to_bf16(c.data[i]);
      out.value.data[i] = to_f32(out.weight[i]);
    }
    return out;
  }
  out.codes.resize(c.data.size());
  out.scales.resize(size_t((c.rows + kGroup - 1) / kGroup * c.cols));
  for (int64_t begin = 0; begin < c.rows; begin += kGroup) {
    const int64_t end = std::min(begin + kGroup, c.rows);
    for (int64_t col = 0; col < c.cols; ++col) {
      float largest = 0;
      for (int64_t row = begin; row < end; ++row) largest = std::max(largest, std::fabs(c[row][col]));
      const bf16 stored = to_bf16(largest / 127);
      const float scale = to_f32(stored);
      out.scales[size_t(begin / kGroup * c.cols + col)] = stored;
      for (int64_t row = begin; row < end; ++row) {
        const float code = scale > 0 ? std::clamp(std::nearbyint(c[row][col] / scale), -127.0f, 127.0f) : 0.0f;
        out.codes[size_t(row * c.cols + col)] = int8_t(code);
        out.value[row][col] = code * scale;
      }
    }
  }
  return out;
}

Table fold_weight(Context& ctx, const FfnTensors& ffn, const std::vector<float>& slope) {
  Table scaled = ffn.up;
  for (int64_t n = 0; n < scaled.rows; ++n) {
    for (int64_t i = 0; i < scaled.cols; ++i) scaled[n][i] *= slope[size_t(n)];
  }
  return multiply(ctx, transposed(scaled.view()).view(), ffn.down.view());
}

std::vector<float> fold_bias(const FfnTensors& ffn, const std::vector<float>& slope,
                             const std::vector<float>& intercept) {
  std::vector<double> sum(ffn.down_bias.begin(), ffn.down_bias.end());
  for (int64_t n = 0; n < ffn.neurons(); ++n) {
    const double constant = double(ffn.up_bias[size_t(n)]) * slope[size_t(n)] + intercept[size_t(n)];
    for (int64_t i = 0; i < ffn.hidden(); ++i) sum[size_t(i)] += constant * ffn.down[n][i];
  }
  return {sum.begin(), sum.end()};
}

FoldedLayer::FoldedLayer(const FfnTensors& ffn, LayerFold fold, Activation activation, WeightFormat format)
    : fold_(std::move(fold)),
      activation_(activation),
      up_bias_(ffn.up_bias),
      down_bias_(ffn.down_bias),
      up_(packed_transposed(format, ffn.up.view())),
      down_(packed(format, ffn.down.view())),
      fold_weight_(packed(WeightFormat::f32, fold_.fold.value.view())),
      predictor_(fold_.predictor.packed(0, fold_.predictor.rows)) {}

Table FoldedLayer::exact(Context& ctx, MatrixView<const float> x) const {
  Table z(x.rows, up_.outputs());
  matmul(ctx, x, up_, up_bias_.data(), z.view());
  return z;
}

Table FoldedLayer::predicted(Context& ctx, MatrixView<const float> x) const {
  Table z(x.rows, up_.outputs());
  predict(ctx, x, predictor_, up_bias_.data(), z.view());
  return z;
}

Table FoldedLayer::output(Context& ctx, FfnForm form, MatrixView<const float> x, const Table& z,
                          const Table& z_predicted) const {
  Table y(x.rows, x.cols);
  if (form == FfnForm::alone) {
    matmul(ctx, x, fold_weight_, fold_.bias.data(), y.view());
    return y;
  }
  Table activated = z;
  ctx.team().split(z.rows, [&](int, int64_t begin, int64_t end) {
    activate(ctx.isa(), activation_, activated[begin], (end - begin) * z.cols);
    if (form == FfnForm::dense) return;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t n = 0; n < z.cols; ++n) {
        float& value = activated[row][n];
        if (!outside(n, z_predicted[row][n])) {
          value = 0;
        } else if (form == FfnForm::folded) {
          value -= fold_.slope[size_t(n)] * z[row][n] + fold_.intercept[size_t(n)];
        }
      }
    }
  });
  matmul(ctx, activated.view(), down_, form == FfnForm::folded ? nullptr : down_bias_.data(), y.view());
  if (form == FfnForm::folded) {
    const Table alone = output(ctx, FfnForm::alone, x, z, z_predicted);
    for (size_t i = 0; i < y.data.size(); ++i) y.data[i] += alone.data[i];
  }
  return y;
}

}  // namespace pleat
