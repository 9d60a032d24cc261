// The FFN of a pass: densely, or the rows of neurons that are selected.
#include "core/engine/device/device_state.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/multiply_rows.h"

namespace pleat {

void DeviceStep::State::dense_ffn(const DeviceLayer& layer) {
  const DeviceFfn& f = layer.ffn;
  const cuda::Rows w = f.up.view(), down = f.down.view();
  const cuda::RowInput x = input(normed, d, w);
  const int h = w.rows;
  if (blueprint.gated) {
    cuda::multiply_rows(handle(), x,
                        {{w, f.up_bias.data(), up.data(), h}, {f.gate.view(), f.gate_bias.data(), gate.data(), h}});
    cuda::activate_gated(handle(), blueprint.activation, {gate.data(), shape.rows, h}, {up.data(), shape.rows, h});
  } else {
    cuda::multiply_rows(handle(), x, {{w, f.up_bias.data(), up.data(), h}});
    cuda::activate(handle(), blueprint.activation, {up.data(), shape.rows, h});
  }
  cuda::multiply_rows(handle(), input(up, h, down), {{down, nullptr, ffn_nodes(), d, layer.leaves.view()}});
}

// Who of a layer's neurons is exact.   input: of C and the predictors
void DeviceStep::State::select(const DeviceLayer& layer, const cuda::RowInput& x,
                               const cuda::DeviceSelection& selection) {
  const DeviceFold& f = layer.fold;
  const int h = selection.neurons();
  switch (layer.spec.selection) {
    case SelectionKind::range:
      return cuda::select_by_range(handle(), shape.rows, up.data(), f.low.data(), f.high.data(), selection);
    case SelectionKind::predictor: {
      cuda::multiply_rows(handle(), x,
                          {{f.predictor.view(), layer.ffn.up_bias.data(), up.data(), h},
                           {f.gate_predictor.view(), layer.ffn.gate_bias.data(), gate.data(), h}});
      const cuda::DeviceLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
      return cuda::select_by_residual(handle(), shape.rows, up.data(), gate.data(), blueprint.activation, lines,
                                      f.factor.data(), f.threshold, selection);
    }
    case SelectionKind::gate:
    case SelectionKind::threshold: {
      const cuda::Rows w = (blueprint.gated ? layer.ffn.gate : layer.ffn.up).view();
      const float* const bias = (blueprint.gated ? layer.ffn.gate_bias : layer.ffn.up_bias).data();
      cuda::multiply_rows(handle(), input(normed, d, w), {{w, bias, gate.data(), h}});
      cuda::activate(handle(), blueprint.activation, {gate.data(), shape.rows, h});
      return cuda::select_by_gate(handle(), shape.rows, gate.data(), f.center.data(), f.factor.data(), f.threshold,
                                  selection);
    }
    default:
      require_for_device(false, "selections prompt, core and static");
  }
}

void DeviceStep::State::fix_up(const DeviceLayer& layer, const cuda::RowInput& x,
                               const cuda::DeviceSelection& selection, bool folded) {
  const auto line = [&](const DeviceVector& of) { return folded && of.size() > 0 ? of.data() : weights.zeros.data(); };
  const cuda::NeuronConstants constants{
      layer.ffn.up_bias.data(),
      layer.ffn.gate_bias.data(),
      {line(layer.fold.slope), line(layer.fold.gate_slope), line(layer.fold.intercept)}};
  if (blueprint.gated)
    cuda::fix_up_gated(handle(), x, layer.ffn.gate.view(), layer.ffn.up.view(), layer.ffn.down.view(), constants,
                       blueprint.activation, selection, of_bins.data());
  else
    cuda::fix_up(handle(), x, layer.ffn.up.view(), layer.ffn.down.view(), constants, blueprint.activation, selection,
                 of_bins.data());
  const bool has_lines = folded && layer.fold.fold.view().rows > 0;
  cuda::sum_leaves(handle(), layer.bins.view(), has_lines ? of_leaves.data() : nullptr, of_bins.data(), shape.rows * d,
                   ffn_nodes());
}

// Rows of neurons: those that are selected, or densely all of them.
void DeviceStep::State::gathered_ffn(const DeviceLayer& layer, bool folded) {
  const cuda::DeviceSelection& selection = selections[size_t(&layer - weights.layers.data())];
  const DeviceFold& f = layer.fold;
  const cuda::Rows fold = f.fold.view(), predictor = f.predictor.view();
  if (!folded) {
    cuda::select_all(handle(), shape.rows, selection);
  } else {
    const bool predicts_range = layer.spec.selection == SelectionKind::range;
    const cuda::RowInput x = input(normed, d, predictor.rows > 0 ? predictor : fold);
    const cuda::RowProduct of_fold{
        fold, nullptr, of_leaves.data(), d, weights.fold_inputs.each_alone(), int(plan.fold_inputs(rank).begin)};
    const cuda::RowProduct of_predictor{predictor, layer.ffn.up_bias.data(), up.data(), selection.neurons()};
    if (fold.rows > 0 && predicts_range)
      cuda::multiply_rows(handle(), x, {of_fold, of_predictor});
    else if (predicts_range)
      cuda::multiply_rows(handle(), x, {of_predictor});
    else if (fold.rows > 0)
      cuda::multiply_rows(handle(), x, {of_fold});
    select(layer, x, selection);
  }
  fix_up(layer, input(normed, d, layer.ffn.up.view()), selection, folded);
}

// What decides is read whole, of the rest the rows that are selected.
int64_t DeviceStep::State::folded_bytes(const DeviceLayer& layer, const cuda::DeviceSelection& selection) const {
  const DeviceFold& f = layer.fold;
  int64_t bytes = f.fold.bytes() + f.predictor.bytes() + f.gate_predictor.bytes();
  if (layer.spec.selection == SelectionKind::gate || layer.spec.selection == SelectionKind::threshold)
    bytes += (blueprint.gated ? layer.ffn.gate : layer.ffn.up).bytes();
  if (selection.neurons() == 0) return bytes;
  return bytes + layer.ffn.bytes() * selection.selected(stream) / selection.neurons();
}

void DeviceStep::State::ffn(const DeviceLayer& layer, bool folded) {
  if (layer.leaves.view().count == 0) return;
  if (layer.by_neuron) return gathered_ffn(layer, folded && layer.folded);
  require_for_device(!layer.folded, "selections prompt, core and static");
  dense_ffn(layer);
}

}  // namespace pleat
