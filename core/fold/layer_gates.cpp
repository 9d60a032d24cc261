#include "core/fold/layer_gates.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/fold/layer_ranges.h"

namespace pleat {
namespace {

constexpr int64_t kRows = 4096;  // lines need no more (method.md section 5)
constexpr int kAlternations = 3;
constexpr int kScoreShift = 15;  // bits of a score's pattern left out: 8 bits of its fraction stay

// What every neuron computes on the rows the lines are fitted on, a neuron a row.
struct Neurons {
  Table up, gate, activated;       // u, g, act(g) [h, rows]
  std::vector<double> down_norm2;  // |w_n|^2 [h]
  std::vector<float> factor;       // [h]
  int64_t rows() const { return up.cols; }
  int64_t count() const { return up.rows; }
};

Neurons compute(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& sample) {
  Table x(std::min(sample.rows, kRows), sample.cols);
  for (int64_t row = 0; row < x.rows; ++row) std::copy_n(sample[row * sample.rows / x.rows], x.cols, x[row]);
  const PackedMatrix inputs = packed_transposed(WeightFormat::f32, x.view());  // x^T [d, rows]
  const int64_t h = ffn.neurons();
  Neurons out;
  out.up = Table(h, x.rows);
  out.gate = Table(h, x.rows);
  matmul(ctx, ffn.up.view(), inputs, nullptr, out.up.view());
  matmul(ctx, ffn.gate.view(), inputs, nullptr, out.gate.view());
  out.activated = Table(h, x.rows);
  out.down_norm2.resize(size_t(h));
  out.factor.resize(size_t(h));
  ctx.team().each(h, [&](int, int64_t n) {
    double squares = 0;
    for (int64_t row = 0; row < x.rows; ++row) {
      out.up[n][row] += ffn.up_bias[size_t(n)];
      out.gate[n][row] += ffn.gate_bias[size_t(n)];
      squares += double(out.up[n][row]) * out.up[n][row];
    }
    std::copy_n(out.gate[n], x.rows, out.activated[n]);
    activate(ctx.isa(), activation, out.activated[n], x.rows);
    for (int64_t i = 0; i < ffn.hidden(); ++i) out.down_norm2[size_t(n)] += double(ffn.down[n][i]) * ffn.down[n][i];
    out.factor[size_t(n)] = float(std::sqrt(squares / double(x.rows) * out.down_norm2[size_t(n)]));
  });
  return out;
}

// Least squares of act(g) u on u, g and 1 over the tokens whose score is at most the threshold.
struct Line {
  double up = 0, gate = 0, constant = 0;
  double error = 0;      // sum of squares
  int64_t selected = 0;  // tokens above the threshold
};

// Solves the symmetric 3 x 3 system by Cholesky with a little ridge; false: nothing to fit on.
bool solve3(double a[3][3], double b[3]) {
  for (int i = 0; i < 3; ++i) {
    a[i][i] += 1e-9 * a[i][i] + 1e-12;
    for (int j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (int k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      if (i == j && sum <= 0) return false;
      a[i][j] = i == j ? std::sqrt(sum) : sum / a[j][j];
    }
  }
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (int i = 2; i >= 0; --i) {
    for (int k = i + 1; k < 3; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return true;
}

Line fit_line(const Neurons& neurons, int64_t n, double up_slope, double threshold) {
  const float *u = neurons.up[n], *g = neurons.gate[n], *act = neurons.activated[n];
  const double limit = threshold / std::max(double(neurons.factor[size_t(n)]), 1e-30);
  const auto is_selected = [&](int64_t row) { return std::fabs(act[row] - up_slope) > limit; };
  double a[3][3] = {}, b[3] = {};
  Line line;
  for (int64_t row = 0; row < neurons.rows(); ++row) {
    if (is_selected(row)) {
      ++line.selected;
      continue;
    }
    const double x[3] = {u[row], g[row], 1}, y = double(act[row]) * u[row];
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j <= i; ++j) a[i][j] += x[i] * x[j];
      b[i] += x[i] * y;
    }
  }
  if (line.selected == neurons.rows() || !solve3(a, b)) {
    line.up = up_slope;
    return line;
  }
  line.up = b[0], line.gate = b[1], line.constant = b[2];
  for (int64_t row = 0; row < neurons.rows(); ++row) {
    if (is_selected(row)) continue;
    const double rest = double(act[row]) * u[row] - (line.up * u[row] + line.gate * g[row] + line.constant);
    line.error += rest * rest;
  }
  return line;
}

// The threshold that leaves at most `share` of all scores above it, from a histogram over the high bits of the scores:
// as bit patterns positive floats are in order.
float threshold_for(Context& ctx, const Neurons& neurons, const std::vector<double>& up_slope, double share) {
  if (share <= 0) return INFINITY;
  using Bins = std::vector<int64_t>;
  std::vector<Bins> bins(static_cast<size_t>(ctx.team().threads()), Bins(size_t(1) << (31 - kScoreShift)));
  ctx.team().each(neurons.count(), [&](int member, int64_t n) {
    const float slope = float(up_slope[size_t(n)]), factor = neurons.factor[size_t(n)];
    for (int64_t row = 0; row < neurons.rows(); ++row) {
      const float score = std::fabs(neurons.activated[n][row] - slope) * factor;
      ++bins[size_t(member)][(std::bit_cast<uint32_t>(score) & 0x7fffffffu) >> kScoreShift];
    }
  });
  const auto wanted = int64_t(share * double(neurons.count() * neurons.rows()));
  int64_t above = 0;
  for (size_t bin = bins[0].size(); bin-- > 0;) {
    for (const Bins& of_thread : bins) above += of_thread[bin];
    if (above > wanted) return std::bit_cast<float>(uint32_t(bin + 1) << kScoreShift);
  }
  return 0;
}

GateCandidate fit_candidate(Context& ctx, const Neurons& neurons, double share, std::vector<double>& up_slope) {
  const size_t h = size_t(neurons.count());
  std::vector<Line> lines(h);
  GateCandidate out;
  // Who is selected depends on c, and c on who is not. The last pass only says what the final pair does.
  for (int i = 0; i < kAlternations; ++i) {
    out.threshold = threshold_for(ctx, neurons, up_slope, share);
    ctx.team().each(int64_t(h), [&](int, int64_t n) {
      lines[size_t(n)] = fit_line(neurons, n, up_slope[size_t(n)], out.threshold);
    });
    if (i + 1 < kAlternations)
      for (size_t n = 0; n < h; ++n) up_slope[n] = lines[n].up;
  }
  double selected = 0, error = 0;
  for (size_t n = 0; n < h; ++n) {
    out.up_slope.push_back(float(lines[n].up));
    out.gate_slope.push_back(float(lines[n].gate));
    out.intercept.push_back(float(lines[n].constant));
    selected += double(lines[n].selected);
    error += lines[n].error * neurons.down_norm2[n];
  }
  out.outside = float(selected / double(neurons.count() * neurons.rows()));
  out.error = float(error / double(neurons.rows()));
  return out;
}

}  // namespace

LayerGates fit_layer_gates(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& sample) {
  const Neurons neurons = compute(ctx, ffn, activation, sample);
  LayerGates out;
  out.factor = neurons.factor;
  std::vector<double> up_slope(size_t(neurons.count()));  // each share begins where the one before ended
  for (size_t i = 0; i < kOutsideShares.size(); ++i)
    out.candidates[i] = fit_candidate(ctx, neurons, kOutsideShares[i], up_slope);
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
                           Activation activation, const Table& sample, WeightFormat format) {
  const GateCandidate& candidate = gates.candidates[choice];
  LayerFold out;
  out.slope = candidate.up_slope;
  out.intercept = candidate.intercept;
  out.gate_slope = candidate.gate_slope;
  out.factor = gates.factor;
  out.threshold = candidate.threshold;
  finish_fold(ctx, ffn, activation, sample, format, out);
  return out;
}

}  // namespace pleat
