#include "core/fold/layer_fold.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/engine/prompt_selection.h"
#include "kernels/check.h"
#include "kernels/context.h"

namespace pleat {

StoredFold store_fold(Context& ctx, const Table& c, WeightFormat format) {
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
  out.rows = gptq(ctx, transposed(c.view()).view(), {}, 8);
  for (int64_t row = 0; row < c.rows; ++row)
    for (int64_t col = 0; col < c.cols; ++col) out.value[row][col] = out.rows.value(col, row);
  return out;
}

Table fold_weight(Context& ctx, const FfnTensors& ffn, const LayerFold& lines) {
  if (lines.slope.empty()) return Table(ffn.hidden(), ffn.hidden());
  Table scaled = ffn.up;
  for (int64_t n = 0; n < scaled.rows; ++n) {
    for (int64_t i = 0; i < scaled.cols; ++i) {
      scaled[n][i] *= lines.slope[size_t(n)];
      if (ffn.gated()) scaled[n][i] += lines.gate_slope[size_t(n)] * ffn.gate[n][i];
    }
  }
  return multiply(ctx, transposed(scaled.view()).view(), ffn.down.view());
}

std::vector<float> fold_bias(const FfnTensors& ffn, const LayerFold& lines) {
  std::vector<double> sum(ffn.down_bias.begin(), ffn.down_bias.end());
  for (size_t n = 0; n < lines.slope.size(); ++n) {
    double constant = double(ffn.up_bias[n]) * lines.slope[n] + lines.intercept[n];
    if (ffn.gated()) constant += double(ffn.gate_bias[n]) * lines.gate_slope[n];
    for (int64_t i = 0; i < ffn.hidden(); ++i) sum[size_t(i)] += constant * ffn.down[int64_t(n)][i];
  }
  return {sum.begin(), sum.end()};
}

FoldedLayer::FoldedLayer(const FfnTensors& ffn, LayerFold fold, Activation activation, WeightFormat format)
    : fold_(std::move(fold)),
      activation_(activation),
      gate_bias_(ffn.gate_bias),
      up_bias_(ffn.up_bias),
      down_bias_(ffn.down_bias),
      up_(packed_transposed(format, ffn.up.view())),
      down_(packed(format, ffn.down.view())) {
  if (ffn.gated()) gate_ = packed_transposed(format, ffn.gate.view());
  if (fold_.spec.lines && fold_.fold.value.rows > 0) fold_weight_ = packed(WeightFormat::f32, fold_.fold.value.view());
  if (fold_.predictor.rows > 0) predictor_ = fold_.predictor.packed(0, fold_.predictor.rows);
  if (fold_.gate_predictor.rows > 0) gate_predictor_ = fold_.gate_predictor.packed(0, fold_.gate_predictor.rows);
}

Table cut_inputs(MatrixView<const float> x, float threshold) {
  Table out(x.rows, x.cols);
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t i = 0; i < x.cols; ++i) out[row][i] = std::fabs(x[row][i]) > threshold ? x[row][i] : 0;
  return out;
}

FoldedLayer::Neurons FoldedLayer::neurons(Context& ctx, MatrixView<const float> x, RowBlocks blocks,
                                          bool densely) const {
  Neurons out;
  const bool cuts = fold_.spec.cuts_inputs && !densely;
  const Table cut = cuts ? cut_inputs(x, fold_.input_threshold) : Table();
  const MatrixView<const float> seen = cuts ? cut.view() : x;
  out.up = Table(x.rows, up_.outputs());
  matmul(ctx, seen, up_, up_bias_.data(), out.up.view());
  if (gated()) {
    out.gate = Table(x.rows, gate_.outputs());
    matmul(ctx, seen, gate_, gate_bias_.data(), out.gate.view());
    out.activated = out.gate;
    activate(ctx, activation_, out.activated.view());
  }
  out.selected.resize(out.up.data.size());
  select(ctx, x, blocks, out);
  if (out.wanted.empty()) out.wanted = out.selected;
  return out;
}

Table threshold_values(Context& ctx, const FoldedLayer::Neurons& neurons, Activation activation, bool cuts_inputs) {
  const bool gated = neurons.gate.rows > 0;
  Table out = gated ? neurons.activated : neurons.up;
  if (!gated) activate(ctx, activation, out.view());
  for (size_t i = 0; i < out.data.size() && gated && cuts_inputs; ++i) out.data[i] *= neurons.up.data[i];
  return out;
}

void FoldedLayer::select(Context& ctx, MatrixView<const float> x, RowBlocks blocks, Neurons& neurons) const {
  switch (fold_.spec.selection) {
    case SelectionKind::all:
    case SelectionKind::hot:
      return std::fill(neurons.selected.begin(), neurons.selected.end(), uint8_t(1));
    case SelectionKind::range:
      return select_by_range(ctx, x, neurons);
    case SelectionKind::predictor:
      return select_by_predictors(ctx, x, neurons);
    case SelectionKind::gate:
      return select_by_score(neurons.activated.view(), neurons);
    case SelectionKind::threshold:
      return select_by_score(threshold_values(ctx, neurons, activation_, fold_.spec.cuts_inputs).view(), neurons);
    case SelectionKind::prompt:
    case SelectionKind::core:
      return select_by_prompt(ctx, blocks, neurons);
  }
}

void FoldedLayer::select_by_range(Context& ctx, MatrixView<const float> x, Neurons& neurons) const {
  const int64_t h = neurons.up.cols;
  Table predicted(x.rows, h);
  predict(ctx, x, predictor_, up_bias_.data(), predicted.view());
  neurons.wanted.resize(neurons.selected.size());
  const auto outside = [&](size_t n, float z) { return z < fold_.low[n] || z > fold_.high[n]; };
  for (size_t i = 0; i < neurons.selected.size(); ++i) {
    neurons.selected[i] = outside(i % size_t(h), predicted.data[i]);
    neurons.wanted[i] = outside(i % size_t(h), neurons.up.data[i]);
  }
}

// Without center and factor: |activation| itself.
void FoldedLayer::select_by_score(MatrixView<const float> activated, Neurons& neurons) const {
  const size_t h = size_t(neurons.up.cols);
  const auto score = [&](size_t n, float value) {
    return fold_.factor.empty() ? std::fabs(value) : std::fabs(value - fold_.center[n]) * fold_.factor[n];
  };
  for (size_t i = 0; i < neurons.selected.size(); ++i)
    neurons.selected[i] = score(i % h, activated.data[i]) > fold_.threshold;
}

void FoldedLayer::select_by_predictors(Context& ctx, MatrixView<const float> x, Neurons& neurons) const {
  const int64_t h = neurons.up.cols;
  Table up(x.rows, h), gate(x.rows, h);
  predict(ctx, x, predictor_, up_bias_.data(), up.view());
  predict(ctx, x, gate_predictor_, gate_bias_.data(), gate.view());
  Table activated = gate;
  activate(ctx, activation_, activated.view());
  neurons.wanted.resize(neurons.selected.size());
  const auto scores_above = [&](size_t n, float u, float g, float act) {
    const float rest =
        fold_.slope.empty() ? act * u : (act - fold_.slope[n]) * u - (fold_.gate_slope[n] * g + fold_.intercept[n]);
    return std::fabs(rest) * fold_.factor[n] > fold_.threshold;
  };
  for (size_t i = 0; i < neurons.selected.size(); ++i) {
    const size_t n = i % size_t(h);
    neurons.selected[i] = scores_above(n, up.data[i], gate.data[i], activated.data[i]);
    neurons.wanted[i] = scores_above(n, neurons.up.data[i], neurons.gate.data[i], neurons.activated.data[i]);
  }
}

// As core/engine/prompt_selection.h, in one virtual shard. Rows of prompts select nothing: they run densely.
void FoldedLayer::select_by_prompt(Context& ctx, RowBlocks blocks, Neurons& neurons) const {
  const int64_t rows = neurons.up.rows, h = neurons.up.cols, length = blocks.rows > 0 ? blocks.rows : rows;
  const int64_t count = std::llround(fold_.spec.share * double(h));
  ctx.team().each((rows + length - 1) / length, [&](int, int64_t block) {
    const int64_t begin = block * length, end = std::min(begin + length, rows);
    const int64_t prompt_end = std::min(begin + blocks.prompt, end);
    std::vector<float> value(static_cast<size_t>(h)), act(value.size()), scores(value.size());
    std::vector<int32_t> best(value.size());
    const auto order = [&](const std::vector<float>& by) {
      std::iota(best.begin(), best.end(), 0);
      return [&by](int32_t a, int32_t b) {
        return by[size_t(a)] > by[size_t(b)] || (by[size_t(a)] == by[size_t(b)] && a < b);
      };
    };
    for (int64_t row = begin; row < prompt_end; ++row) {
      std::copy_n(neurons.up[row], h, act.data());
      if (gated())
        for (int64_t n = 0; n < h; ++n) act[size_t(n)] *= neurons.activated[row][n];
      else
        activate(ctx.isa(), activation_, act.data(), h);
      if (fold_.spec.selection == SelectionKind::core) {
        for (size_t n = 0; n < value.size(); ++n) value[n] = std::fabs(act[n]);
        const int64_t core = std::llround(kTokenCore * double(h));
        std::nth_element(best.begin(), best.begin() + core, best.end(), order(value));
        for (int64_t i = 0; i < core; ++i) scores[size_t(best[size_t(i)])] += 1;
        continue;
      }
      double squares = 0;
      for (const float a : act) squares += double(a) * a;
      for (int64_t n = 0; n < h && squares > 0; ++n) {
        const size_t i = size_t(n);
        const float missed = fold_.factor.empty() ? act[i] : residual(neurons, row, n, act[i]) * fold_.factor[i];
        scores[i] += missed * missed / float(squares);
      }
    }
    if (count < h)
      std::nth_element(best.begin(), best.begin() + count, best.end(), order(scores));
    else
      std::iota(best.begin(), best.end(), 0);
    for (int64_t row = prompt_end; row < end; ++row)
      for (int64_t i = 0; i < count; ++i) neurons.selected[size_t(row * h + best[size_t(i)])] = 1;
  });
}

// `activation`: of the neuron, exactly.
float FoldedLayer::residual(const Neurons& neurons, int64_t row, int64_t n, float activation) const {
  if (fold_.slope.empty()) return activation;
  const size_t i = size_t(n);
  const float line = fold_.slope[i] * neurons.up[row][n] + fold_.intercept[i];
  return activation - (gated() ? line + fold_.gate_slope[i] * neurons.gate[row][n] : line);
}

Table FoldedLayer::output(Context& ctx, FfnForm form, MatrixView<const float> x, const Neurons& neurons) const {
  Table y(x.rows, x.cols);
  if (form == FfnForm::alone) {
    if (fold_weight_.outputs() > 0) {
      matmul(ctx, x, fold_weight_, fold_.bias.data(), y.view());
    } else {
      for (int64_t row = 0; row < y.rows; ++row) std::copy(fold_.bias.begin(), fold_.bias.end(), y[row]);
    }
    return y;
  }
  Table activated = neurons.up;
  const int64_t h = activated.cols;
  ctx.team().split(activated.rows, [&](int, int64_t begin, int64_t end) {
    if (!gated()) activate(ctx.isa(), activation_, activated[begin], (end - begin) * h);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t n = 0; n < h; ++n) {
        float& value = activated[row][n];
        if (gated()) value *= neurons.activated[row][n];
        if (form == FfnForm::dense) continue;
        if (!neurons.is_selected(row, n)) {
          value = 0;
        } else if (form == FfnForm::folded) {
          value = residual(neurons, row, n, value);
        }
      }
    }
  });
  matmul(ctx, activated.view(), down_, form == FfnForm::folded ? nullptr : down_bias_.data(), y.view());
  if (form == FfnForm::folded) {
    const Table alone = output(ctx, FfnForm::alone, x, neurons);
    for (size_t i = 0; i < y.data.size(); ++i) y.data[i] += alone.data[i];
  }
  return y;
}

}  // namespace pleat
