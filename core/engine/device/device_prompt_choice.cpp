// What prompts leave behind of themselves: who is exact in their sequences (core/engine/prompt_selection.h).
#include "core/engine/device/device_state.h"
#include "core/engine/prompt_selection.h"
#include "kernels/cuda/prompt_choice.h"

namespace pleat {

// Where a prompt is judged by what they miss.
bool DeviceStep::State::keeps_lines(const DeviceLayer& layer) const {
  return shape.prompt && layer.folded && layer.spec.selection == SelectionKind::prompt && layer.spec.lines;
}

// What the lines give. Before the activation, which takes up's place.
void DeviceStep::State::keep_lines(const DeviceLayer& layer) {
  if (!keeps_lines(layer)) return;
  const DeviceFold& f = layer.fold;
  const cuda::DeviceLines lines{f.slope.data(), f.gate_slope.data(), f.intercept.data()};
  cuda::lines_of(handle(), shape.rows, layer.shards.neurons, up.data(), blueprint.gated ? gate.data() : nullptr, lines,
                 prompt_values.data());
}

// Of a rank without neurons too: norms are summed over all.
void DeviceStep::State::remember_prompts(const DeviceLayer& layer) {
  const size_t index = size_t(&layer - weights.layers.data());
  const int h = layer.shards.neurons;
  const cuda::PromptRows rows{shape.rows, uploaded(RowsUpload::positions), uploaded(RowsUpload::slots),
                              uploaded(RowsUpload::ends)};
  const cuda::PromptScores scores{prompt_scores[index].data(), prompt_chosen[index].data()};
  const float *values = prompt_values.data(), *norms = nullptr;
  if (layer.spec.selection == SelectionKind::core) {
    cuda::mark_cores(handle(), shape.rows, layer.shards, kTokenCore, up.data(), prompt_values.data());
  } else {
    cuda::shard_squares(handle(), shape.rows, layer.shards, up.data(), squares.data());
    cuda::sum_leaves(handle(), weights.of_shards.view(), nullptr, squares.data(), shape.rows, square_nodes.data());
    sum->all_reduce(handle(), "prompt norms", plan.ffn_exchange(), shape.rows, 1, square_nodes.data(),
                    squared_norms.data());
    norms = squared_norms.data();
    if (layer.spec.lines)
      cuda::missed_by_lines(handle(), shape.rows, h, up.data(), layer.fold.factor.data(), prompt_values.data());
    else
      values = up.data();
  }
  cuda::add_scores(handle(), rows, h, values, norms, scores);
  cuda::choose(handle(), rows, layer.shards, layer.spec.share, scores);
}

}  // namespace pleat
