#pragma once
// One rank's weights on its device.
#include <vector>

#include "core/engine/engine.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/fix_up.h"
#include "kernels/cuda/leaves.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/prompt_choice.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/selection.h"

namespace pleat {

using DeviceVector = cuda::DeviceArray<float>;

struct DeviceNorm {
  DeviceVector weight, bias;  // [d]; no weight: the model has no such norm
};

struct DeviceAttention {
  cuda::DeviceRows query_key_value;  // [(q + 2 kv) * hd, d]
  cuda::DeviceRows output;           // [d, q * hd]
  DeviceVector query_key_value_bias;
  DeviceNorm query_norm, key_norm;  // [hd], of every head
  DeviceNorm output_norm;           // [d]
};

// Matrices of an FFN. `down` stands by neuron, [h, d], where its rows are gathered, else by output, [d, h]; gate and up
// by input, [d, h], where their inputs are cut, else by output, [h, d].
struct DeviceFfn {
  cuda::DeviceRows gate, up, down;
  DeviceVector gate_bias, up_bias;
  DeviceNorm output_norm;  // [d]
  int64_t bytes() const { return gate.bytes() + up.bytes() + down.bytes(); }
};

// What every rank adds after a sum, or nothing. Where attention and FFN are added together, both biases.
struct DeviceBiases {
  DeviceVector attention, dense, folded;  // [d]
};

struct DeviceFold {
  cuda::DeviceRows fold;  // C by output [d, d_r]; no rows without lines
  DeviceVector slope, gate_slope, intercept;
  cuda::DeviceRows predictor, gate_predictor;  // [h, d]
  DeviceVector low, high, center, factor;
  float threshold = 0, input_threshold = 0;
};

struct DeviceLayer {
  DeviceNorm attention_norm, ffn_norm;
  DeviceAttention attention;
  LayerFoldSpec spec;
  bool folded = false;
  bool by_neuron = false;            // how `down` stands
  bool by_input = false;             // how gate and up stand
  std::vector<int32_t> bin_offsets;  // of its neurons, see cuda::SelectionView
  cuda::DeviceLeaves leaves;         // of the FFN's tree: offsets of neurons
  cuda::DeviceArray<int32_t> shard_offsets;
  cuda::Shards shards;  // virtual ones, of its neurons
  DeviceBiases biases;
  DeviceFfn ffn;
  DeviceFold fold;
};

struct DeviceWeights {
  cuda::DeviceRows head, token_embedding, position_embedding;
  cuda::DeviceRows embedding_input, embedding_output;  // [d, e], [e, d]
  DeviceVector head_bias;
  DeviceNorm embedding_norm, final_norm;
  std::vector<DeviceLayer> layers;
  cuda::DeviceLeaves heads, fold_inputs;    // leaves of the attention's tree, and the FFN's for C's inputs
  cuda::DeviceLeaves of_shards, of_leaves;  // the FFN's for what is there of each virtual shard, and of each leaf
  DeviceVector zeros;                       // [the most neurons of a layer]
};

// Copies weights to the device as they come.
class DeviceWeightTaker : public ExecutorBuilder {
 public:
  // By a thread that uses the device. Blueprint and plan stay as long as this.
  DeviceWeightTaker(const Blueprint& blueprint, const ShardPlan& plan, int rank);
  void take(int layer, LayerWeights weights) override;
  void take(OuterWeights weights) override;
  std::unique_ptr<StepExecutor> build(Communicator& communicator, const EngineOptions& options) override;

 private:
  void add_leaves();

  const Blueprint& blueprint_;
  const ShardPlan& plan_;
  int rank_, device_;
  DeviceWeights weights_;
};

}  // namespace pleat
