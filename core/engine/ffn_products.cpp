// Gate and up, or W1, in whichever form a layer holds them. Where inputs are cut (TEAL, arXiv 2408.14690) they stand by
// input: a row of the step reads the weights of its large inputs only, and a rank holds its neurons' columns. Every
// output is summed in the order of the inputs, so any number of ranks gives the same bits.
#include "core/engine/engine_state.h"

namespace pleat {

namespace {

struct Forms {
  const PackedMatrix& whole;
  const NeuronRows &by_neuron, &by_input;
};

void product(Context& context, MatrixView<const float> input, const Forms& w, const Vector& bias, const Selection* cut,
             MatrixView<float> out) {
  if (cut)
    matmul_selected(context, input, w.by_input, bias.data(), *cut, out);
  else if (w.by_input.neurons() > 0)
    matmul_by_input(context, input, w.by_input, bias.data(), out);
  else if (w.whole.outputs() > 0)
    matmul(context, input, w.whole, bias.data(), out);
  else
    matmul_up(context, input, w.by_neuron, bias.data(), out);
}

}  // namespace

void Engine::State::up_product(const LayerWeights& w, MatrixView<const float> input, const Selection* cut,
                               MatrixView<float> out) {
  product(context, input, {w.dense.up, w.fold.up, w.by_input.up}, w.up_bias, cut, out);
}

void Engine::State::gate_product(const LayerWeights& w, MatrixView<const float> input, const Selection* cut,
                                 MatrixView<float> out) {
  product(context, input, {w.dense.gate, w.fold.gate, w.by_input.gate}, w.gate_bias, cut, out);
}

const Selection* Engine::State::cut_inputs(const LayerWeights& w, MatrixView<const float> input) {
  if (!w.spec.cuts_inputs) return nullptr;
  select_by_magnitude(context, input, w.fold.input_threshold, inputs);
  return &inputs;
}

int64_t Engine::State::cut_bytes(const LayerWeights& w) const {
  return w.spec.cuts_inputs ? inputs.count() * w.by_input.row_bytes() : 0;
}

}  // namespace pleat
