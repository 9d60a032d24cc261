#pragma once
// What every part of the loader of one rank's weights needs to know.
#include "core/engine/weight_loader.h"
#include "core/engine/weights.h"

namespace pleat {

struct WeightJob {
  WeightLoader& loader;
  const Blueprint& blueprint;
  const ShardPlan& plan;
  int rank;
  WeightFormat dtype;

  WeightFormat format_of(Part part, int layer) const { return blueprint.format_of(part, layer, dtype); }

  // Inputs `inputs` and outputs `outputs` of a part [total_inputs, total_outputs], packed from output `to` on.
  void pack(const WeightSource& source, int64_t total_inputs, int64_t total_outputs, Range inputs, Range outputs,
            PackedMatrix& matrix, int64_t to = 0) {
    if (has_planes(matrix.format()))
      return loader.planes(source.weight, total_inputs, total_outputs, inputs, outputs, to, matrix.planes());
    if (is_low_bit(matrix.format())) {
      if (inputs.size() > 0)
        loader.low_bit(source.weight, total_inputs, total_outputs, inputs, outputs, to, matrix.low_bit());
      return;
    }
    loader.matrix(source, total_inputs, total_outputs, inputs, outputs, to,
                  [&](int64_t k, int64_t n, const WeightBlock& block) { matrix.pack(k, n, block); });
  }
};

inline WeightBlock transposed(const WeightBlock& block) {
  return {block.data, block.dtype, block.outputs, block.inputs, block.output_stride, block.input_stride};
}

// The FFN of a layer, with its biases. `dense`: a folded layer as a dense one.
void load_ffn(WeightJob& job, int layer, bool dense, LayerWeights& weights);

}  // namespace pleat
