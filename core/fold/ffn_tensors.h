#pragma once
// One layer's dense FFN read from a checkpoint, a neuron a row.
#include <span>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/products.h"
#include "core/model/blueprint.h"

namespace pleat {

// FFN(x) = act(x up^T + up_bias) down + down_bias; gated: (act(x gate^T + gate_bias) * (x up^T + up_bias)) down +
// down_bias
struct FfnTensors {
  Table gate;                    // Wg^T [h, d], or empty
  std::vector<float> gate_bias;  // [h], or empty
  Table up;                      // W1^T [h, d]
  std::vector<float> up_bias;    // b1 [h], zeros where the model has none
  Table down;                    // W2 [h, d]
  std::vector<float> down_bias;  // b2 [d]

  int64_t neurons() const { return up.rows; }
  int64_t hidden() const { return up.cols; }
  bool gated() const { return gate.rows > 0; }
};

// order: new place -> old neuron; some of them, or all in another order.
FfnTensors reordered(const FfnTensors& ffn, std::span<const int32_t> order);

FfnTensors read_ffn(const Checkpoint& checkpoint, const Blueprint& blueprint, int layer);

}  // namespace pleat
