// How well predictors choose, seen from what they stand for: the exact values of one row's neurons.
#include "core/engine/engine_state.h"

namespace pleat {

// input [1, d], whose choice is row 0 of `selection`. It reads the up matrix, of gated FFNs the gate too; no bit of the
// step depends on it.
void Engine::State::measure_recall(int layer, MatrixView<const float> input) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const FoldedFfn& f = w.fold;
  const bool by_range = w.spec.selection == SelectionKind::range;
  if ((!by_range && w.spec.selection != SelectionKind::predictor) || w.neurons == 0) return;
  Selection& exact = *exact_selection;
  const MatrixView<float> up(hidden.data(), 1, w.neurons);
  up_product(w, input, nullptr, up);
  if (by_range) {
    for (int64_t n = 0; n < w.neurons; ++n)
      exact.rows[size_t(n)] = up[0][n] < f.range_low[size_t(n)] || up[0][n] > f.range_high[size_t(n)];
    exact.gather(context);
  } else {
    const MatrixView<float> gates(gate.data(), 1, w.neurons);
    gate_product(w, input, nullptr, gates);
    const GatedLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
    select_by_residual(context, up, gates, blueprint.activation, lines, f.factor.data(), f.threshold, exact);
  }
  int64_t at = 0;  // in the predictor's choice
  for (int64_t i = 0; i < exact.count(); ++i) {
    while (at < selection.count() && selection.neuron[size_t(at)] < exact.neuron[size_t(i)]) ++at;
    ++statistics.needed[size_t(layer)];
    if (at < selection.count() && selection.neuron[size_t(at)] == exact.neuron[size_t(i)])
      statistics.found[size_t(layer)] += selection.rows[size_t(at)] & 1;
  }
  lap(EngineStatistics::other);
}

}  // namespace pleat
