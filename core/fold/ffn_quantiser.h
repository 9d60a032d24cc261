#pragma once
// One layer's FFN matrices in low bits (GPTQ, method.md section 6), and what the stored numbers mean.
#include <vector>

#include "core/fold/ffn_tensors.h"
#include "core/fold/gptq.h"
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
  bool by_neuron = false;     // how down stands: [h, d], grouped along a neuron's outputs, or [d, h]
  LowBitRows gate, up, down;  // empty where bf16
  FfnTensors values;          // what all of it stands for; empty after forget_values()
  void forget_values() { values = {}; }
  void restore_values(const FfnTensors& ffn);  // ffn: what was quantised
  bool is_low_bit() const { return gate.rows + up.rows + down.rows > 0; }
};

// formats: bf16 leaves a matrix as it is.
QuantisedFfn quantise_ffn(Context& ctx, const FfnTensors& ffn, const FfnMoments& moments, const FfnFormats& formats,
                          bool by_neuron);

// The neurons in another order. Not of down matrices that stand by output.
QuantisedFfn reordered(const QuantisedFfn& ffn, std::span<const int32_t> order);

// The moments of some neurons.
FfnMoments some_neurons(const FfnMoments& moments, const std::vector<int32_t>& neurons);

}  // namespace pleat
