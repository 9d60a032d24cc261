// The FFN of a pass: densely, or the rows of neurons that are selected.
#include <algorithm>

#include "core/engine/device/device_state.h"
#include "kernels/cuda/activation.h"

namespace pleat {

namespace {

// Whether x is as w takes it.
bool fits(const cuda::RowInput& x, const cuda::Rows& w) {
  return w.bits > 8 || w.rows == 0 || (x.q != nullptr && x.protected_inputs == w.protected_inputs);
}

bool chooses_by_activation(SelectionKind selection) {
  return selection == SelectionKind::gate || selection == SelectionKind::threshold;
}

}  // namespace

// up = act(z), or act(g) u, of all neurons that the layer holds.
void DeviceStep::State::activations(const DeviceLayer& layer) {
  const int h = layer.shards.neurons;
  if (h == 0) return;
  const MatrixView<float> of_up(up.data(), shape.rows, h), of_gate(gate.data(), shape.rows, h);
  if (!blueprint.gated && !keeps_lines(layer)) return input_products(layer, blueprint.activation);
  input_products(layer);
  keep_lines(layer);
  if (blueprint.gated)
    cuda::activate_gated(handle(), blueprint.activation, of_gate, of_up);
  else
    cuda::activate(handle(), blueprint.activation, of_up);
}

void DeviceStep::State::input_products(const DeviceLayer& layer, std::optional<Activation> activation) {
  if (layer.by_input && (!shape.prompt || runs_folded(layer, shape.prompt))) return cut_products(layer, activation);
  const DeviceFfn& f = layer.ffn;
  const int h = layer.shards.neurons;
  const int64_t held = blueprint.held_neurons(int(&layer - weights.layers.data()));
  const int64_t outputs = held % kVirtualShards == 0 ? all_outputs(held, held / kVirtualShards) : 0;
  cuda::RowProduct of_up{f.up.view(), f.up_bias.data(), up.data(), h},
      of_gate{f.gate.view(), f.gate_bias.data(), gate.data(), h};
  of_up.activation = activation;
  if (!layer.by_input) return multiply(normed, d, {of_up, of_gate}, outputs);
  for (cuda::RowProduct* const product : {&of_up, &of_gate}) {
    product->w = by_output.transpose(handle(), product->w);
    multiply(normed, d, {*product}, outputs);
  }
}

// Of matrices that stand by input the rows of the inputs that are selected, kMaxRows rows of x at a time. A layer that
// does not run folded has no threshold, 0, and leaves out nothing that is not 0.
void DeviceStep::State::cut_products(const DeviceLayer& layer, std::optional<Activation> activation) {
  const DeviceFfn& f = layer.ffn;
  const cuda::DeviceSelection& inputs = input_selections[size_t(&layer - weights.layers.data())];
  const int64_t h = layer.shards.neurons;
  for (int first = 0; first < shape.rows; first += cuda::kMaxRows) {
    const int rows = std::min(cuda::kMaxRows, shape.rows - first);
    const float* const x = normed.data() + int64_t(first) * d;
    const cuda::SelectedProduct of_up{f.up.view(), f.up_bias.data(), up.data() + first * h, activation},
        of_gate{f.gate.view(), f.gate_bias.data(), gate.data() + first * h};
    cuda::select_by_magnitude(handle(), rows, x, layer.fold.input_threshold, inputs);
    if (blueprint.gated)
      cuda::multiply_selected(handle(), rows, x, {of_up, of_gate}, inputs, cut_work.data());
    else
      cuda::multiply_selected(handle(), rows, x, {of_up}, inputs, cut_work.data());
  }
}

void DeviceStep::State::dense_ffn(const DeviceLayer& layer) {
  activations(layer);
  if (shape.prompt && layer.folded && by_prompt(layer.spec.selection)) remember_prompts(layer);
  project_neurons(layer);
}

void DeviceStep::State::project_neurons(const DeviceLayer& layer) {
  const cuda::Leaves leaves = layer.leaves.view();
  if (leaves.count == 0) return;
  if (layer.shards.neurons == 0) {
    const size_t nodes_here = plan.ffn_exchange().nodes[size_t(rank)].size();
    return cuda::zero(ffn_nodes(), nodes_here * size_t(shape.rows) * size_t(d) * sizeof(float), handle());
  }
  const cuda::Rows down =
      layer.by_neuron ? by_output.transpose(handle(), layer.ffn.down.view()) : layer.ffn.down.view();
  multiply(up, layer.shards.neurons, {{down, nullptr, ffn_nodes(), d, leaves}}, all_outputs(d, d));
}

// C, a sum a leaf.
void DeviceStep::State::multiply_fold(const DeviceLayer& layer) {
  multiply(normed, d,
           {{layer.fold.fold.view(), nullptr, of_leaves.data(), d, weights.fold_inputs.each_alone(),
             int(plan.fold_inputs(rank).begin)}});
}

// Selection static: C, and densely the neurons that are left.
void DeviceStep::State::held_ffn(const DeviceLayer& layer) {
  const cuda::Rows fold = layer.fold.fold.view(), down = layer.ffn.down.view();
  const int h = layer.shards.neurons;
  const bool has_inputs = fold.rows > 0 && fold.width > 0;
  if (has_inputs) multiply_fold(layer);
  mark(EngineStatistics::fold);
  activations(layer);
  if (h > 0)
    multiply(up, h, {{down, nullptr, of_held.data(), d, layer.leaves.each_alone()}});
  else
    cuda::zero(of_held.data(), of_held.size() * sizeof(float), handle());
  cuda::sum_leaves(handle(), weights.of_leaves.view(), has_inputs ? of_leaves.data() : nullptr, of_held.data(),
                   shape.rows * d, ffn_nodes());
}

// Who of a layer's neurons is exact, by what folded_ffn() has computed of them.
void DeviceStep::State::select(const DeviceLayer& layer, const cuda::DeviceSelection& selection) {
  const DeviceFold& f = layer.fold;
  switch (layer.spec.selection) {
    case SelectionKind::range:
      return cuda::select_by_range(handle(), shape.rows, up.data(), f.low.data(), f.high.data(), selection);
    case SelectionKind::predictor: {
      const cuda::DeviceLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
      return cuda::select_by_residual(handle(), shape.rows, up.data(), gate.data(), blueprint.activation, lines,
                                      f.factor.data(), f.threshold, selection);
    }
    case SelectionKind::gate:
    case SelectionKind::threshold:
      cuda::activate(handle(), blueprint.activation, {gate.data(), shape.rows, selection.neurons()});
      return cuda::select_by_gate(handle(), shape.rows, gate.data(), f.center.data(), f.factor.data(), f.threshold,
                                  selection);
    case SelectionKind::prompt:
    case SelectionKind::core: {
      const size_t index = size_t(&layer - weights.layers.data());
      return cuda::select_chosen(handle(), shape.rows, uploaded(RowsUpload::slots), prompt_chosen[index].data(),
                                 selection);
    }
    case SelectionKind::all:
    case SelectionKind::hot:
      PLEAT_ASSERT(false, "no neurons to choose");
  }
}

cuda::DeviceLines DeviceStep::State::lines_of(const DeviceLayer& layer) const {
  const auto line = [&](const DeviceVector& of) { return of.size() > 0 ? of.data() : weights.zeros.data(); };
  return {line(layer.fold.slope), line(layer.fold.gate_slope), line(layer.fold.intercept)};
}

void DeviceStep::State::fix_up(const DeviceLayer& layer, const cuda::RowInput& x,
                               const cuda::DeviceSelection& selection) {
  const cuda::NeuronConstants constants{layer.ffn.up_bias.data(), layer.ffn.gate_bias.data(), lines_of(layer)};
  const cuda::ExactFfn exact{blueprint.gated ? layer.ffn.gate.view() : cuda::Rows(), layer.ffn.up.view(),
                             layer.ffn.down.view(), constants, blueprint.activation};
  cuda::exact_residuals(handle(), x, exact, selection, residuals.data());
  add_residuals(layer, selection);
}

// The rows of down, and what C gave.
void DeviceStep::State::add_residuals(const DeviceLayer& layer, const cuda::DeviceSelection& selection) {
  if (layer.shards.neurons > 0)
    cuda::add_exact_rows(handle(), shape.rows, {layer.ffn.down.view()}, layer.shards, selection, residuals.data(),
                         of_shards.data());
  else
    cuda::zero(of_shards.data(), of_shards.size() * sizeof(float), handle());
  const bool has_lines = layer.fold.fold.view().rows > 0;
  cuda::sum_leaves(handle(), weights.of_shards.view(), has_lines ? of_leaves.data() : nullptr, of_shards.data(),
                   shape.rows * d, ffn_nodes());
}

// C, and the rows of the neurons that are selected. C and what decides who is selected read the same x: one launch,
// unless what decides are low-bit rows that protect inputs, for which x is quantised again.
void DeviceStep::State::folded_ffn(const DeviceLayer& layer) {
  const cuda::DeviceSelection& selection = selections[size_t(&layer - weights.layers.data())];
  const DeviceFold& f = layer.fold;
  const DeviceFfn& exact = layer.ffn;
  const int h = selection.neurons();
  const cuda::RowProduct of_fold{
      f.fold.view(), nullptr, of_leaves.data(), d, weights.fold_inputs.each_alone(), int(plan.fold_inputs(rank).begin)};
  const cuda::RowProduct of_up{f.predictor.view(), exact.up_bias.data(), up.data(), h};
  const cuda::RowProduct of_gate{f.gate_predictor.view(), exact.gate_bias.data(), gate.data(), h};
  cuda::RowProduct of_activation{{}, (blueprint.gated ? exact.gate_bias : exact.up_bias).data(), gate.data(), h};
  if (chooses_by_activation(layer.spec.selection)) of_activation.w = (blueprint.gated ? exact.gate : exact.up).view();

  if (h == 0) {  // shards without a neuron
    if (of_fold.w.rows > 0) multiply_fold(layer);
    mark(EngineStatistics::fold);
    return add_residuals(layer, selection);
  }
  const bool fold_is_low = of_fold.w.rows > 0 && of_fold.w.bits <= 8;
  cuda::RowInput x = input(normed, d, of_up.w.rows > 0 ? of_up.w : fold_is_low ? of_fold.w : of_activation.w);
  if (fits(x, of_activation.w)) {
    cuda::multiply_rows(handle(), x, {of_fold, of_up, of_gate, of_activation});
  } else {
    cuda::multiply_rows(handle(), x, {of_fold, of_up, of_gate});
    x = input(normed, d, of_activation.w);
    cuda::multiply_rows(handle(), x, {of_activation});
  }
  select(layer, selection);
  mark(EngineStatistics::fold);
  fix_up(layer, fits(x, exact.up.view()) ? x : input(normed, d, exact.up.view()), selection);
}

// Selection threshold where inputs are cut: g and u, or z, are known of all neurons, and select by what they come to.
void DeviceStep::State::known_ffn(const DeviceLayer& layer) {
  const cuda::DeviceSelection& selection = selections[size_t(&layer - weights.layers.data())];
  if (layer.fold.fold.view().rows > 0) multiply_fold(layer);
  if (layer.shards.neurons > 0) {
    input_products(layer);
    cuda::select_known(handle(), shape.rows, up.data(), blueprint.gated ? gate.data() : nullptr, blueprint.activation,
                       lines_of(layer), layer.fold.threshold, selection, residuals.data());
  }
  mark(EngineStatistics::fold);
  add_residuals(layer, selection);
}

// What decides is read whole, together with C, of the rest the rows that are selected; where inputs are cut, gate and
// up of those that are left (of a prompt's rows as many as the last kMaxRows leave).
void DeviceStep::State::add_folded_bytes(size_t index, PhaseBytes& bytes) const {
  const DeviceLayer& layer = weights.layers[index];
  const DeviceFold& f = layer.fold;
  const auto selected = [&](const cuda::DeviceSelection& of, int64_t all) {
    return of.neurons() > 0 ? all * of.selected(stream) / of.neurons() : 0;
  };
  int64_t &whole = bytes[EngineStatistics::fold], &exact = bytes[EngineStatistics::fixup];
  whole += f.fold.bytes() + f.predictor.bytes() + f.gate_predictor.bytes();
  if (layer.by_input) {
    const int64_t inputs = selected(input_selections[index], layer.ffn.gate.bytes() + layer.ffn.up.bytes());
    const bool chooses = layer.spec.selection == SelectionKind::threshold;
    (chooses ? whole : exact) += inputs;
    exact += chooses ? selected(selections[index], layer.ffn.down.bytes()) : layer.ffn.down.bytes();
    return;
  }
  if (chooses_by_activation(layer.spec.selection)) whole += (blueprint.gated ? layer.ffn.gate : layer.ffn.up).bytes();
  exact +=
      layer.spec.selection == SelectionKind::hot ? layer.ffn.bytes() : selected(selections[index], layer.ffn.bytes());
}

void DeviceStep::State::ffn(const DeviceLayer& layer, bool folded) {
  if (!folded) {
    dense_ffn(layer);
    return mark(EngineStatistics::dense_ffn);
  }
  if (layer.leaves.view().count == 0) return;
  switch (layer.spec.selection) {
    case SelectionKind::all:
      activations(layer);
      project_neurons(layer);
      break;
    case SelectionKind::hot:
      held_ffn(layer);
      break;
    default:
      layer.by_input ? known_ffn(layer) : folded_ffn(layer);
  }
  mark(EngineStatistics::fixup);
}

}  // namespace pleat
