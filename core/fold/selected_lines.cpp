#include "core/fold/selected_lines.h"

#include <algorithm>
#include <cmath>

#include "core/fold/line_fit.h"
#include "core/fold/sample_rows.h"
#include "kernels/check.h"
#include "kernels/context.h"

namespace pleat {
namespace {

constexpr int64_t kRows = 4096;  // lines need no more (method.md section 5)

// act(g), or act(z) of plain neurons.
Table activated(Context& ctx, const FoldedLayer::Neurons& neurons, Activation activation) {
  if (neurons.gate.rows > 0) return neurons.activated;
  Table out = neurons.up;
  activate(ctx, activation, out.view());
  return out;
}

std::vector<float> down_norms(const FfnTensors& ffn) {
  std::vector<float> out;
  for (int64_t n = 0; n < ffn.neurons(); ++n) {
    double norm2 = 0;
    for (int64_t i = 0; i < ffn.hidden(); ++i) norm2 += double(ffn.down[n][i]) * ffn.down[n][i];
    out.push_back(float(std::sqrt(norm2)));
  }
  return out;
}

// The lines of all neurons over the rows that do not select them. neurons: of whole inputs, as C sees them.
void fit_lines(Context& ctx, const FoldedLayer::Neurons& neurons, const FoldedLayer::Neurons* selecting,
               const Table& act, LayerFold& fold) {
  const int64_t h = neurons.up.cols, rows = neurons.up.rows;
  const bool gated = neurons.gate.rows > 0;
  fold.slope.resize(size_t(h)), fold.intercept.resize(size_t(h));
  if (gated) fold.gate_slope.resize(size_t(h));
  ctx.team().each(h, [&](int, int64_t n) {
    LineFit fit;
    for (int64_t row = 0; row < rows; ++row) {
      if (selecting && selecting->is_selected(row, n)) continue;
      const double u = neurons.up[row][n];
      fit.add(u, gated ? neurons.gate[row][n] : 0, gated ? double(act[row][n]) * u : double(act[row][n]));
    }
    const Line line = fit.line_or({});
    fold.slope[size_t(n)] = float(line.up), fold.intercept[size_t(n)] = float(line.constant);
    if (gated) fold.gate_slope[size_t(n)] = float(line.gate);
  });
}

}  // namespace

float magnitude_above(const Table& values, double share) {
  if (share <= 0) return INFINITY;
  std::vector<float> magnitude;
  magnitude.reserve(values.data.size());
  for (const float value : values.data) magnitude.push_back(std::fabs(value));
  const auto below = std::min(magnitude.size() - 1, size_t((1 - share) * double(magnitude.size())));
  std::nth_element(magnitude.begin(), magnitude.begin() + int64_t(below), magnitude.end());
  return magnitude[below];
}

LayerFold build_selected_fold(Context& ctx, const FfnTensors& ffn, LayerFold out, double exact, Activation activation,
                              const Table& sample, const FoldForm& form) {
  const SelectionKind selection = out.spec.selection;
  PLEAT_ASSERT(selection == SelectionKind::threshold || by_prompt(selection));
  constexpr int kAlternations = 2;  // a prompt judged by what the lines miss depends on them
  const WeightFormat arithmetic = form.wanted ? WeightFormat::f32 : WeightFormat::bf16;
  const Table x = rows_of(sample, spread_blocks(sample.rows, kRows, kSampleBlocks.rows));
  out.spec.share = by_prompt(selection) ? exact : 0;
  const auto neurons_now = [&](bool densely) {
    return FoldedLayer(ffn, out, activation, arithmetic).neurons(ctx, x.view(), kSampleBlocks, densely);
  };
  const FoldedLayer::Neurons whole = neurons_now(true);
  if (selection == SelectionKind::threshold)
    out.threshold = magnitude_above(threshold_values(ctx, neurons_now(false), activation, out.spec.cuts_inputs), exact);
  if (form.lines) {
    if (selection == SelectionKind::prompt) out.factor = down_norms(ffn);
    const Table act = activated(ctx, whole, activation);
    fit_lines(ctx, whole, nullptr, act, out);
    for (int i = 0; i < kAlternations; ++i) {
      const FoldedLayer::Neurons now = neurons_now(false);
      fit_lines(ctx, whole, &now, act, out);
    }
  }
  FoldForm with_blocks = form;
  with_blocks.blocks = kSampleBlocks;
  finish_fold(ctx, ffn, activation, sample, with_blocks, out);
  return out;
}

}  // namespace pleat
