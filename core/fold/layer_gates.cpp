#include "core/fold/layer_gates.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/fold/line_fit.h"
#include "core/fold/sample_rows.h"
#include "kernels/check.h"
#include "kernels/context.h"

namespace pleat {
namespace {

constexpr int64_t kRows = 4096;  // lines need no more (method.md section 5)
constexpr int kAlternations = 3;
constexpr int kScoreShift = 15;  // bits of a score's pattern left out: 8 bits of its fraction stay

// What every neuron computes on some rows, a neuron a row.
struct Values {
  Table up, gate, activated;  // u, g, act(g) [h, rows]
};

struct Neurons {
  Values exact;
  Values predicted;  // empty where the exact gate selects
  bool lines = true;
  std::vector<double> down_norm2;  // |w_n|^2 [h]
  std::vector<float> factor;       // of the score [h]
  int64_t rows() const { return exact.up.cols; }
  int64_t count() const { return exact.up.rows; }
};

Table activated(Context& ctx, Activation activation, Table values) {
  activate(ctx, activation, values.view());
  return values;
}

Values compute_exactly(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& x) {
  const PackedMatrix inputs = packed_transposed(WeightFormat::f32, x.view());  // x^T [d, rows]
  const auto product = [&](const Table& weight, const std::vector<float>& bias) {
    Table out(weight.rows, x.rows);
    matmul(ctx, weight.view(), inputs, nullptr, out.view());
    for (int64_t n = 0; n < out.rows; ++n)
      for (int64_t row = 0; row < out.cols; ++row) out[n][row] += bias[size_t(n)];
    return out;
  };
  Values out{product(ffn.up, ffn.up_bias), product(ffn.gate, ffn.gate_bias), {}};
  out.activated = activated(ctx, activation, out.gate);
  return out;
}

Values predict_values(Context& ctx, const FfnTensors& ffn, const GatePredictors& predictors, Activation activation,
                      const Table& x) {
  const auto product = [&](const LowBitRows& weight, const std::vector<float>& bias) {
    Table out(x.rows, weight.rows);
    predict(ctx, x.view(), weight.packed(0, weight.rows), bias.data(), out.view());
    return transposed(out.view());
  };
  Values out{product(predictors.up, ffn.up_bias), product(predictors.gate, ffn.gate_bias), {}};
  out.activated = activated(ctx, activation, out.gate);
  return out;
}

Neurons compute(Context& ctx, const FfnTensors& ffn, const GatePredictors& predictors, Activation activation,
                const Table& sample) {
  const Table x = rows_of(sample, spread_rows(sample.rows, kRows));
  Neurons out;
  out.exact = compute_exactly(ctx, ffn, activation, x);
  if (!predictors.empty()) out.predicted = predict_values(ctx, ffn, predictors, activation, x);
  for (int64_t n = 0; n < ffn.neurons(); ++n) {
    double norm2 = 0, squares = 0;
    for (int64_t i = 0; i < ffn.hidden(); ++i) norm2 += double(ffn.down[n][i]) * ffn.down[n][i];
    for (int64_t row = 0; row < x.rows; ++row) squares += double(out.exact.up[n][row]) * out.exact.up[n][row];
    out.down_norm2.push_back(norm2);
    out.factor.push_back(float(std::sqrt(predictors.empty() ? squares / double(x.rows) * norm2 : norm2)));
  }
  return out;
}

// scores [rows] of neuron n, whose line so far is `line`.
void score(const Neurons& neurons, int64_t n, const Line& line, float* scores) {
  const float c = float(line.up), e = float(line.gate), f = float(line.constant), factor = neurons.factor[size_t(n)];
  const int64_t rows = neurons.rows();
  if (neurons.predicted.up.rows == 0) {
    const float* const act = neurons.exact.activated[n];
    for (int64_t row = 0; row < rows; ++row) scores[row] = std::fabs(act[row] - c) * factor;
    return;
  }
  const Values& values = neurons.predicted;
  const float *const u = values.up[n], *const g = values.gate[n], *const act = values.activated[n];
  for (int64_t row = 0; row < rows; ++row) scores[row] = std::fabs((act[row] - c) * u[row] - (e * g[row] + f)) * factor;
}

// The line of the tokens whose score by the line `before` is at most the threshold.
Line fit_line(const Neurons& neurons, int64_t n, const Line& before, float threshold) {
  const float *u = neurons.exact.up[n], *g = neurons.exact.gate[n], *act = neurons.exact.activated[n];
  std::vector<float> scores(size_t(neurons.rows()));
  score(neurons, n, before, scores.data());
  LineFit fit;
  for (int64_t row = 0; row < neurons.rows(); ++row)
    if (scores[size_t(row)] <= threshold) fit.add(u[row], g[row], double(act[row]) * u[row]);
  return fit.line_or(before);
}

// The threshold that leaves at most `share` of all scores above it, from a histogram over the high bits of the scores:
// as bit patterns positive floats are in order.
float threshold_for(Context& ctx, const Neurons& neurons, const std::vector<Line>& lines, double share) {
  if (share <= 0) return INFINITY;
  using Bins = std::vector<int64_t>;
  std::vector<Bins> bins(static_cast<size_t>(ctx.team().threads()), Bins(size_t(1) << (31 - kScoreShift)));
  std::vector<std::vector<float>> scores(bins.size(), std::vector<float>(size_t(neurons.rows())));
  ctx.team().each(neurons.count(), [&](int member, int64_t n) {
    std::vector<float>& mine = scores[size_t(member)];
    score(neurons, n, lines[size_t(n)], mine.data());
    for (const float value : mine)
      ++bins[size_t(member)][(std::bit_cast<uint32_t>(value) & 0x7fffffffu) >> kScoreShift];
  });
  const auto wanted = int64_t(share * double(neurons.count() * neurons.rows()));
  int64_t above = 0;
  for (size_t bin = bins[0].size(); bin-- > 0;) {
    for (const Bins& of_thread : bins) above += of_thread[bin];
    if (above > wanted) return std::bit_cast<float>(uint32_t(bin + 1) << kScoreShift);
  }
  return 0;
}

// `lines`: what to begin with; left as the candidate's.
GateCandidate fit_candidate(Context& ctx, const Neurons& neurons, double share, std::vector<Line>& lines) {
  const int64_t h = neurons.count();
  GateCandidate out;
  // Who is selected depends on the lines, and they on who is not. The last threshold and selection are those of the
  // final lines, as at run time.
  for (int i = 0; i < kAlternations && neurons.lines; ++i) {
    out.threshold = threshold_for(ctx, neurons, lines, share);
    ctx.team().each(h,
                    [&](int, int64_t n) { lines[size_t(n)] = fit_line(neurons, n, lines[size_t(n)], out.threshold); });
  }
  out.threshold = threshold_for(ctx, neurons, lines, share);
  std::vector<double> errors(static_cast<size_t>(h)), selected(errors.size());
  ctx.team().each(h, [&](int, int64_t n) {
    const float *u = neurons.exact.up[n], *g = neurons.exact.gate[n], *act = neurons.exact.activated[n];
    const Line& line = lines[size_t(n)];
    std::vector<float> scores(size_t(neurons.rows()));
    score(neurons, n, line, scores.data());
    for (int64_t row = 0; row < neurons.rows(); ++row) {
      if (scores[size_t(row)] > out.threshold) {
        ++selected[size_t(n)];
        continue;
      }
      const double rest = double(act[row]) * u[row] - (line.up * u[row] + line.gate * g[row] + line.constant);
      errors[size_t(n)] += rest * rest;
    }
  });
  double all_selected = 0, error = 0;
  for (size_t n = 0; n < lines.size(); ++n) {
    out.up_slope.push_back(float(lines[n].up));
    out.gate_slope.push_back(float(lines[n].gate));
    out.intercept.push_back(float(lines[n].constant));
    all_selected += selected[n];
    error += errors[n] * neurons.down_norm2[n];
  }
  out.outside = float(all_selected / double(h * neurons.rows()));
  out.error = float(error / double(neurons.rows()));
  return out;
}

}  // namespace

std::vector<double> shares_through(double share) {
  std::vector<double> grid(kOutsideShares.begin(), kOutsideShares.end());
  const auto place = std::lower_bound(grid.begin(), grid.end(), share);
  if (place != grid.end() && *place == share) return grid;
  grid.erase(place, grid.end());
  grid.push_back(share);
  return grid;
}

LayerGates fit_layer_gates(Context& ctx, const FfnTensors& ffn, bool has_lines, GatePredictors predictors,
                           Activation activation, const Table& sample, std::span<const double> shares) {
  Neurons neurons = compute(ctx, ffn, predictors, activation, sample);
  neurons.lines = has_lines;
  LayerGates out;
  out.lines = has_lines;
  out.predictors = std::move(predictors);
  out.factor = neurons.factor;
  std::vector<Line> lines(size_t(neurons.count()));
  for (const double share : shares) out.candidates.push_back(fit_candidate(ctx, neurons, share, lines));
  return out;
}

LayerRanges as_ranges(const LayerGates& gates, double layer_weight) {
  LayerRanges out;
  out.weight = {layer_weight};
  out.neurons.resize(1);
  for (size_t i = 0; i < gates.candidates.size(); ++i) {
    out.neurons[0][i].outside = gates.candidates[i].outside;
    out.neurons[0][i].error = gates.candidates[i].error;
  }
  return out;
}

LayerFold build_gated_fold(Context& ctx, const FfnTensors& ffn, const LayerGates& gates, size_t choice,
                           Activation activation, const Table& sample, const FoldForm& form) {
  PLEAT_ASSERT(form.lines == gates.lines);
  const GateCandidate& candidate = gates.candidates[choice];
  LayerFold out;
  out.spec.selection = gates.predictors.empty() ? SelectionKind::gate : SelectionKind::predictor;
  out.factor = gates.factor;
  if (gates.predictors.empty()) out.center = candidate.up_slope;
  if (!gates.predictors.empty()) out.spec.predictor_bits = gates.predictors.up.bits;
  out.slope = candidate.up_slope;
  out.intercept = candidate.intercept;
  out.gate_slope = candidate.gate_slope;
  out.predictor = gates.predictors.up;
  out.gate_predictor = gates.predictors.gate;
  out.threshold = candidate.threshold;
  finish_fold(ctx, ffn, activation, sample, form, out);
  return out;
}

}  // namespace pleat
