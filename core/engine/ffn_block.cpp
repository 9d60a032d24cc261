// The FFN of this rank's neurons, up to its partial sums: dense for prompts, folded for generated tokens (method.md
// equations 1 and 4). Both kinds of rows of a step travel in one all-reduce; nothing about the fallback crosses a link.
#include <cmath>

#include "core/engine/engine_state.h"

namespace pleat {

// What the held neurons compute of some rows: act(z), or act(g) u.
MatrixView<float> Engine::State::activations(int layer, MatrixView<const float> input, const Selection* cut) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const MatrixView<float> act(hidden.data(), input.rows, w.neurons);
  if (w.neurons == 0) return act;
  up_product(w, input, cut, act);
  observe("fc", layer, act);
  if (blueprint.gated) {
    const MatrixView<float> gates(gate.data(), input.rows, w.neurons);
    gate_product(w, input, cut, gates);
    keep_lines(w, act, gates);
    activate_gated(context, blueprint.activation, gates, act);
  } else {
    keep_lines(w, act, {});
    activate(context, blueprint.activation, act);
  }
  observe("gelu", layer, act);
  return act;
}

// What the lines give for some prompt rows, where a prompt is judged by what they miss.   up: z or u.
void Engine::State::keep_lines(const LayerWeights& w, MatrixView<const float> up, MatrixView<const float> gates) {
  const FoldedFfn& f = w.fold;
  if (!w.folded || w.spec.selection != SelectionKind::prompt || !w.spec.lines) return;
  for (int64_t row = 0; row < up.rows; ++row) {
    float* const line = &prompt_values[size_t(row * w.neurons)];
    for (int64_t n = 0; n < w.neurons; ++n) line[n] = f.slope[size_t(n)] * up[row][n] + f.intercept[size_t(n)];
    for (int64_t n = 0; n < w.neurons && blueprint.gated; ++n) line[n] += f.gate_slope[size_t(n)] * gates[row][n];
  }
}

// Prompt rows leave their mark on who is exact in their sequences. `hidden` holds their activations.
void Engine::State::remember_prompts(int layer, const StepPlan& step_plan) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const MatrixView<const float> act(hidden.data(), dense_rows, w.neurons);
  MatrixView<const float> values = act;
  if (w.spec.selection == SelectionKind::prompt) {
    // |h|^2 of a row along the tree, so that it has the same bits everywhere.
    const int first_leaf = int(plan.ffn_leaves(rank).begin);
    float* const squares = prompt_squares.data();
    float* const nodes = squares + ffn_leaves.size() * size_t(dense_rows);
    std::fill(squares, nodes, 0.0f);
    for (size_t leaf = 0; leaf < ffn_leaves.size(); ++leaf)
      for (int64_t row = 0; row < dense_rows; ++row)
        for (int64_t n = w.neuron_offsets[leaf]; n < w.neuron_offsets[leaf + 1]; ++n)
          squares[leaf * size_t(dense_rows) + size_t(row)] += act[row][n] * act[row][n];
    if (!ffn_nodes.empty()) reduce_leaves(context, squares, first_leaf, ffn_nodes, dense_rows, nodes);
    communicator.tree_all_reduce("prompt norms", plan.ffn_exchange(), nodes, dense_rows, prompt_norms.data());
    for (int64_t row = 0; row < dense_rows; ++row) prompt_norms[size_t(row)] = std::sqrt(prompt_norms[size_t(row)]);
    if (w.spec.lines) {
      for (int64_t row = 0; row < dense_rows; ++row)
        for (int64_t n = 0; n < w.neurons; ++n) {
          float& value = prompt_values[size_t(row * w.neurons + n)];
          value = (act[row][n] - value) * w.fold.factor[size_t(n)];
        }
      values = {prompt_values.data(), dense_rows, w.neurons};
    }
  }
  prompt_selection->add(layer, step_plan, std::span(ordered).first(size_t(dense_rows)), values, prompt_norms.data());
  lap(EngineStatistics::predictor);
}

void Engine::State::dense_ffn(int layer, int64_t row, int64_t count) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const MatrixView<float> act = activations(layer, {&normed[size_t(row * d)], count, d}, nullptr);
  const int first_leaf = int(plan.ffn_leaves(rank).begin);
  sums.fill(attention_nodes.size(), ffn_nodes.size(), row, count, [&](float* out) {
    if (w.by_neuron)
      matmul_down(context, act, w.fold.down, w.neuron_offsets, first_leaf, ffn_nodes, out);
    else
      matmul_nodes(context, act, w.dense.down, first_leaf, ffn_nodes, out);
  });
  lap(EngineStatistics::dense_ffn, w.exact_bytes());
}

void Engine::State::fix_up_by_range(const LayerWeights& w, MatrixView<const float> input) {
  const FoldedFfn& f = w.fold;
  predict_selection(context, input, f.predictor, w.up_bias.data(), f.range_low.data(), f.range_high.data(), selection);
  lap(EngineStatistics::predictor, f.predictor.bytes());
  fix_up_selected(w, input);
}

// Selections gate and threshold: what the activation is of is known of every neuron, and of a plain FFN that is all but
// the down rows.
void Engine::State::fix_up_by_activation(const LayerWeights& w, MatrixView<const float> input) {
  const FoldedFfn& f = w.fold;
  const Selection* const cut = cut_inputs(w, input);
  if (cut && blueprint.gated) return fix_up_by_product(w, input, *cut);
  const MatrixView<float> z(gate.data(), input.rows, w.neurons), activated(hidden.data(), input.rows, w.neurons);
  if (w.neurons > 0) {
    blueprint.gated ? gate_product(w, input, nullptr, z) : up_product(w, input, cut, z);
    std::copy_n(z.data, input.rows * w.neurons, activated.data);
    activate(context, blueprint.activation, activated);
  }
  select_by_gate(context, activated, f.center.data(), f.factor.data(), f.threshold, selection);
  lap(EngineStatistics::predictor, w.deciding_bytes() + size_t(cut_bytes(w)));
  if (blueprint.gated) {
    const GatedLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
    return fix_up_gated(context, input, f.up, f.down, w.up_bias.data(), lines, {z, activated}, selection,
                        leaves.as<float>());
  }
  for (int64_t row = 0; row < input.rows; ++row)
    for (int64_t n = 0; n < w.neurons; ++n)
      activated[row][n] -= f.slope[size_t(n)] * z[row][n] + f.intercept[size_t(n)];
  add_known(context, activated, f.down, selection, leaves.as<float>());
}

// Selection threshold of a gated FFN whose inputs are cut: g and u are known of every neuron, |act(g) u| selects.
void Engine::State::fix_up_by_product(const LayerWeights& w, MatrixView<const float> input, const Selection& cut) {
  const FoldedFfn& f = w.fold;
  const MatrixView<float> g(gate.data(), input.rows, w.neurons), u(hidden.data(), input.rows, w.neurons);
  const MatrixView<float> activated(products.data(), input.rows, w.neurons);
  if (w.neurons > 0) {
    gate_product(w, input, &cut, g);
    up_product(w, input, &cut, u);
    std::copy_n(g.data, input.rows * w.neurons, activated.data);
    activate(context, blueprint.activation, activated);
    for (int64_t i = 0; i < input.rows * w.neurons; ++i) activated.data[i] *= u.data[i];
  }
  select_by_magnitude(context, activated, f.threshold, selection);
  lap(EngineStatistics::predictor, size_t(cut_bytes(w)));
  for (int64_t row = 0; row < input.rows; ++row)
    for (int64_t n = 0; n < w.neurons; ++n) {
      const size_t i = size_t(n);
      activated[row][n] -= f.slope[i] * u[row][n] + f.gate_slope[i] * g[row][n] + f.intercept[i];
    }
  add_known(context, activated, f.down, selection, leaves.as<float>());
}

void Engine::State::fix_up_by_predictor(const LayerWeights& w, MatrixView<const float> input) {
  const FoldedFfn& f = w.fold;
  const MatrixView<float> gates(gate.data(), input.rows, w.neurons), ups(hidden.data(), input.rows, w.neurons);
  const GatedLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
  predict(context, input, f.gate_predictor, w.gate_bias.data(), gates);
  predict(context, input, f.predictor, w.up_bias.data(), ups);
  select_by_residual(context, ups, gates, blueprint.activation, lines, f.factor.data(), f.threshold, selection);
  lap(EngineStatistics::predictor, f.gate_predictor.bytes() + f.predictor.bytes());
  fix_up_selected(w, input);
}

// Nothing of the selected neurons is known yet.
void Engine::State::fix_up_selected(const LayerWeights& w, MatrixView<const float> input) {
  const FoldedFfn& f = w.fold;
  if (!blueprint.gated) {
    const Residual residual{w.up_bias.data(), f.slope.data(), f.intercept.data()};
    return fix_up(context, input, f.up, f.down, residual, blueprint.activation, selection, leaves.as<float>());
  }
  const GatedLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
  fix_up_gated(context, input, f.gate, f.up, f.down, w.gate_bias.data(), w.up_bias.data(), lines, blueprint.activation,
               selection, leaves.as<float>());
}

// Selection static: all neurons that are left. Of one that cuts inputs: all neurons.
void Engine::State::add_held(int layer, MatrixView<const float> input) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const MatrixView<float> act = activations(layer, input, cut_inputs(w, input));
  matmul_nodes(context, act, w.dense.down, int(plan.ffn_leaves(rank).begin), ffn_leaves, held_leaves.data());
  const int64_t count = int64_t(ffn_leaves.size()) * input.rows * d;
  for (int64_t i = 0; i < count; ++i) leaves.as<float>()[i] += held_leaves[size_t(i)];
  selection.clear();
}

void Engine::State::add_exact(int layer, const StepPlan& step_plan, int64_t row, MatrixView<const float> input) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  switch (w.spec.selection) {
    case SelectionKind::all:
    case SelectionKind::hot:
      return add_held(layer, input);
    case SelectionKind::range:
      return fix_up_by_range(w, input);
    case SelectionKind::gate:
    case SelectionKind::threshold:
      return fix_up_by_activation(w, input);
    case SelectionKind::predictor:
      return fix_up_by_predictor(w, input);
    case SelectionKind::prompt:
    case SelectionKind::core:
      prompt_selection->select(context, layer, step_plan, std::span(ordered).subspan(size_t(row), size_t(input.rows)),
                               selection);
      return fix_up_selected(w, input);
  }
}

void Engine::State::folded_ffn(int layer, const StepPlan& step_plan, int64_t row, int64_t count) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const FoldedFfn& f = w.fold;
  const MatrixView<const float> input(&normed[size_t(row * d)], count, d);
  const Range fold_inputs = plan.fold_inputs(rank);
  const int first_leaf = int(plan.ffn_leaves(rank).begin);

  if (w.spec.lines)
    matmul_nodes(context, MatrixView<const float>(input.data + fold_inputs.begin, count, fold_inputs.size(), d), f.fold,
                 first_leaf, ffn_leaves, leaves.as<float>());
  else
    std::fill_n(leaves.as<float>(), int64_t(ffn_leaves.size()) * count * d, 0.0f);
  lap(EngineStatistics::fold, f.fold.bytes());
  add_exact(layer, step_plan, row, input);
  sums.fill(attention_nodes.size(), ffn_nodes.size(), row, count,
            [&](float* out) { reduce_leaves(context, leaves.as<float>(), first_leaf, ffn_nodes, count * d, out); });
  lap(EngineStatistics::fixup, gathers(w.spec.selection) ? gathered_bytes(w) : held_bytes(w));
  if (row < dense_rows) return;
  for (int m = 0; m < count; ++m) statistics.fallback[size_t(layer)] += selection.row_count(m);
  statistics.gathered[size_t(layer)] += selection.count();
  count_bytes(w, selection.count());
  if (measures_recall && row == dense_rows) measure_recall(layer, {input.data, 1, d});
}

int64_t Engine::State::gathered_bytes(const LayerWeights& w) const {
  const auto row_bytes = [&](const NeuronRows& rows) { return &rows == w.deciding_rows() ? 0 : rows.row_bytes(); };
  return selection.count() * (row_bytes(w.fold.gate) + row_bytes(w.fold.up) + row_bytes(w.fold.down));
}

int64_t Engine::State::held_bytes(const LayerWeights& w) const {
  return int64_t(w.dense.gate.bytes() + w.dense.up.bytes() + w.dense.down.bytes()) + cut_bytes(w);
}

// A pass over the FFN's weights for generated tokens.
void Engine::State::count_bytes(const LayerWeights& w, int64_t gathered) {
  const FfnBytes& bytes = w.ffn_bytes;
  const int64_t cut = w.folded && w.spec.cuts_inputs ? inputs.count() * bytes.per_input : 0;
  statistics.ffn_bytes_read +=
      (bytes.fixed + cut) * plan.neurons(rank).size() / blueprint.neurons + gathered * bytes.per_neuron;
  statistics.ffn_bytes_dense += bytes.dense * plan.neurons(rank).size() / blueprint.neurons;
}

// The first row that runs folded.
int64_t Engine::State::first_folded(const LayerWeights& w) const {
  if (!w.folded) return rows;
  return w.spec.selection == SelectionKind::hot ? 0 : dense_rows;
}

void Engine::State::ffn(int layer, const StepPlan& step_plan) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const int64_t folded = first_folded(w);
  if (!ffn_nodes.empty() && folded > 0) dense_ffn(layer, 0, folded);
  if (w.folded && by_prompt(w.spec.selection) && dense_rows > 0) remember_prompts(layer, step_plan);
  if (ffn_nodes.empty()) return;
  if (!w.folded && rows > dense_rows) count_bytes(w, 0);
  for (int64_t row = folded; row < rows;) {
    const int64_t end = row < dense_rows ? dense_rows : rows;  // generated tokens apart: they are counted
    const int64_t count = std::min<int64_t>(kMaxSharedRows, end - row);
    folded_ffn(layer, step_plan, row, count);
    row += count;
  }
}

}  // namespace pleat
