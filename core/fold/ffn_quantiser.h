#pragma once
// One layer's FFN matrices in low bits (GPTQ, method.md section 6), and what the stored numbers mean.
#include <span>
#include <vector>

#include "core/fold/ffn_tensors.h"
#include "core/fold/quantised_weights.h"
#include "core/model/fold_spec.h"

namespace pleat {

// Of what the matrices multiply, over the calibration text with position 0.
struct FfnMoments {
  std::vector<double> inputs;          // sum of x x^T [d, d]
  std::vector<double> neurons;         // of the activations [h, h]; empty: not known, down is rounded to nearest
  std::vector<float> largest_inputs;   // |x| [d]
  std::vector<float> largest_neurons;  // [h]
};

struct QuantisedFfn {
  FfnFormats formats;
  bool by_neuron = false;           // how down stands: [h, d], grouped along a neuron's outputs, or [d, h]
  bool by_input = false;            // how gate and up stand: [d, h], grouped along an input's neurons, or [h, d]
  QuantisedWeights gate, up, down;  // empty where bf16
  FfnTensors values;                // what all of it stands for; empty after forget_values()
  bool is_low_bit() const { return formats != FfnFormats(); }
  void forget_values() { values = {}; }
  void restore_values(const FfnTensors& ffn);  // ffn: what was quantised
};

// formats: bf16 leaves a matrix as it is.
QuantisedFfn quantise_ffn(Context& ctx, const FfnTensors& ffn, const FfnMoments& moments, const FfnFormats& formats,
                          bool by_neuron, bool by_input);

// The neurons in another order; of matrices that are gathered by neuron.
QuantisedFfn reordered(const QuantisedFfn& ffn, std::span<const int32_t> order);

// The moments of some neurons.
FfnMoments some_neurons(const FfnMoments& moments, const std::vector<int32_t>& neurons);

}  // namespace pleat
