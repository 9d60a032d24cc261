#pragma once
// Folding a gated layer (method.md section 4): for a grid of shares computed exactly, the score's threshold and the
// lines h_n ~ c u + e g + f fitted on the tokens that will use them. The score is
//   gate        |act(g) - c| rms(u) |w|
//   predictor   |act(g~) u~ - (c u~ + e g~ + f)| |w|
// Without lines c, e and f are 0.
#include <span>
#include <vector>

#include "core/fold/budget.h"
#include "core/fold/layer_fold.h"

namespace pleat {

struct GateCandidate {
  std::vector<float> up_slope, gate_slope, intercept;  // c, e, f [h]
  float threshold = 0;                                 // of the score; the exact ones are above
  float outside = 0;                                   // share of (token, neuron) above
  float error = 0;  // squared error of the FFN's output a token, neurons taken singly
};

// Low-bit copies of gate and up [h, d]; empty where the exact gate decides.
struct GatePredictors {
  LowBitRows gate, up;
  bool empty() const { return gate.rows == 0; }
};

struct LayerGates {
  bool lines = true;
  GatePredictors predictors;
  std::vector<float> factor;              // rms(u_n) |w_n|, or |w_n| [h]
  std::vector<GateCandidate> candidates;  // one for each of the shares
};

// Shares that lead to `share`, which is one of them: kOutsideShares where they have it, else those below it and itself.
std::vector<double> shares_through(double share);

// Without predictors the exact gate decides.   shares: computed exactly, ascending; each fit begins where the one
// before ended, and does worse without (the squared error of SmolLM2's layers is 2 to 60% higher).
LayerGates fit_layer_gates(Context& ctx, const FfnTensors& ffn, bool has_lines, GatePredictors predictors,
                           Activation activation, const Table& sample, std::span<const double> shares = kOutsideShares);

// The candidates of kOutsideShares as the budget sees them: one thing to choose, whose error costs layer_weight.
LayerRanges as_ranges(const LayerGates& gates, double layer_weight);

// The layer folded with candidate `choice`; C carries the correction fitted on the sample.
LayerFold build_gated_fold(Context& ctx, const FfnTensors& ffn, const LayerGates& gates, size_t choice,
                           Activation activation, const Table& sample, const FoldForm& form);

}  // namespace pleat
