// The FFN of this rank's neurons, up to its partial sums: dense for prompts, folded for generated tokens (method.md
// equations 1 and 4). Both kinds of rows of a step travel in one all-reduce; nothing about the fallback crosses a link.
#include "core/engine/engine_state.h"

namespace pleat {

void Engine::State::dense_ffn(int layer, int64_t row, int64_t count) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const MatrixView<const float> input(&normed[size_t(row * d)], count, d);
  const MatrixView<float> act(hidden.data(), count, neurons);
  const int first_leaf = int(plan.ffn_leaves(rank).begin);
  if (neurons > 0) {
    if (w.folded)
      matmul_up(context, input, w.fold.up, w.up_bias.data(), act);
    else
      matmul(context, input, w.dense.up, w.up_bias.data(), act);
    observe("fc", layer, act);
    if (blueprint.gated) {
      const MatrixView<float> gates(gate.data(), count, neurons);
      if (w.fold.gate_rows.neurons() > 0)
        matmul_up(context, input, w.fold.gate_rows, w.gate_bias.data(), gates);
      else
        matmul(context, input, w.folded ? w.fold.gate : w.dense.gate, w.gate_bias.data(), gates);
      activate_gated(context, blueprint.activation, gates, act);
    } else {
      activate(context, blueprint.activation, act);
    }
    observe("gelu", layer, act);
  }
  sums.fill(attention_nodes.size(), ffn_nodes.size(), row, count, [&](float* out) {
    if (w.folded)
      matmul_down(context, act, w.fold.down, selection.leaf_offsets, first_leaf, ffn_nodes, out);
    else
      matmul_nodes(context, act, w.dense.down, first_leaf, ffn_nodes, out);
  });
  const size_t exact_bytes = w.fold.gate.bytes() + w.fold.gate_rows.bytes() + w.fold.up.bytes() + w.fold.down.bytes();
  lap(EngineStatistics::dense_ffn,
      w.folded ? exact_bytes : w.dense.gate.bytes() + w.dense.up.bytes() + w.dense.down.bytes());
}

void Engine::State::fix_up_by_range(int layer, MatrixView<const float> input) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const FoldedFfn& f = w.fold;
  predict_selection(context, input, f.predictor, w.up_bias.data(), f.range_low.data(), f.range_high.data(), selection);
  lap(EngineStatistics::predictor, f.predictor.bytes());
  const Residual residual{w.up_bias.data(), f.slope.data(), f.intercept.data()};
  fix_up(context, input, f.up, f.down, residual, blueprint.activation, selection, leaves.data());
}

void Engine::State::fix_up_by_gate(int layer, MatrixView<const float> input) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const FoldedFfn& f = w.fold;
  const MatrixView<float> gates(gate.data(), input.rows, neurons), activated(hidden.data(), input.rows, neurons);
  if (neurons > 0) {
    matmul(context, input, f.gate, w.gate_bias.data(), gates);
    std::copy_n(gates.data, input.rows * neurons, activated.data);
    activate(context, blueprint.activation, activated);
  }
  select_by_gate(context, activated, f.slope.data(), f.factor.data(), f.threshold, selection);
  lap(EngineStatistics::predictor, f.gate.bytes());
  const GatedLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
  fix_up_gated(context, input, f.up, f.down, w.up_bias.data(), lines, {gates, activated}, selection, leaves.data());
}

void Engine::State::fix_up_by_predictor(int layer, MatrixView<const float> input) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const FoldedFfn& f = w.fold;
  const MatrixView<float> gates(gate.data(), input.rows, neurons), ups(hidden.data(), input.rows, neurons);
  const GatedLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
  predict(context, input, f.gate_predictor, w.gate_bias.data(), gates);
  predict(context, input, f.predictor, w.up_bias.data(), ups);
  select_by_residual(context, ups, gates, blueprint.activation, lines, f.factor.data(), f.threshold, selection);
  lap(EngineStatistics::predictor, f.gate_predictor.bytes() + f.predictor.bytes());
  fix_up_gated(context, input, f.gate_rows, f.up, f.down, w.gate_bias.data(), w.up_bias.data(), lines,
               blueprint.activation, selection, leaves.data());
}

void Engine::State::fix_up_selected(int layer, MatrixView<const float> input) {
  switch (blueprint.fold->selection) {
    case SelectionKind::range:
      return fix_up_by_range(layer, input);
    case SelectionKind::gate:
      return fix_up_by_gate(layer, input);
    case SelectionKind::predictor:
      return fix_up_by_predictor(layer, input);
  }
}

void Engine::State::folded_ffn(int layer, int64_t row, int64_t count) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const FoldedFfn& f = w.fold;
  const MatrixView<const float> input(&normed[size_t(row * d)], count, d);
  const Range fold_inputs = plan.fold_inputs(rank);
  const int first_leaf = int(plan.ffn_leaves(rank).begin);

  matmul_nodes(context, MatrixView<const float>(input.data + fold_inputs.begin, count, fold_inputs.size(), d), f.fold,
               first_leaf, ffn_leaves, leaves.data());
  lap(EngineStatistics::fold, f.fold.bytes());
  fix_up_selected(layer, input);
  sums.fill(attention_nodes.size(), ffn_nodes.size(), row, count,
            [&](float* out) { reduce_leaves(context, leaves.data(), first_leaf, ffn_nodes, count * d, out); });
  const int64_t element = f.up.format() == WeightFormat::f32 ? 4 : 2;
  const int64_t gathered = f.gate_rows.neurons() > 0 ? 3 : 2;
  lap(EngineStatistics::fixup, size_t(selection.count() * gathered * d * element));

  for (int m = 0; m < count; ++m) statistics.fallback[size_t(layer)] += selection.row_count(m);
  statistics.gathered[size_t(layer)] += selection.count();
  const FfnBytes bytes = ffn_bytes(*blueprint.fold, d, blueprint.neurons);
  statistics.ffn_bytes_read += bytes.fixed * neurons / blueprint.neurons + selection.count() * bytes.per_neuron;
  statistics.ffn_bytes_dense += bytes.dense * neurons / blueprint.neurons;
}

void Engine::State::ffn(int layer) {
  if (ffn_nodes.empty()) return;
  if (dense_rows > 0) dense_ffn(layer, 0, dense_rows);
  for (int64_t row = dense_rows; row < rows; row += kMaxSharedRows)
    folded_ffn(layer, row, std::min<int64_t>(kMaxSharedRows, rows - row));
}

}  // namespace pleat
