// One decoder layer: the sub-layers in the order the blueprint says, and what is added to the residual stream.
#include "core/engine/engine_state.h"
#include "kernels/layer_norm.h"

namespace pleat {

void Engine::State::normalise(const NormWeights& norm, MatrixView<const float> in, MatrixView<float> out) {
  if (norm.weight.empty()) {
    for (int64_t row = 0; row < in.rows && in.data != out.data; ++row) std::copy_n(in[row], in.cols, out[row]);
  } else if (blueprint.norm == NormKind::rms_norm) {
    rms_norm(context, in, norm.weight.data(), blueprint.norm_epsilon, out);
  } else {
    layer_norm(context, in, norm.weight.data(), norm.bias.empty() ? nullptr : norm.bias.data(), blueprint.norm_epsilon,
               out);
  }
}

void Engine::State::layer(int layer, const StepPlan& step_plan) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const bool norm_first = blueprint.norm_place == NormPlace::before;
  static const NormWeights none;
  const auto prepare = [&](const NormWeights& norm, const char* name) {
    normalise(norm_first ? norm : none, view(x, d), view(normed, d));
    observe(name, layer, view(normed, d));
    lap(EngineStatistics::other);
  };
  sums.begin(rows);
  prepare(w.attention_norm, "ln1");
  attend(layer);
  if (blueprint.parallel_residual) {
    if (!w.ffn_norm.weight.empty()) prepare(w.ffn_norm, "ln2");
    ffn(layer, step_plan);
    return add_both(layer, step_plan);
  }
  add_attention(layer);
  if (!norm_first) normalise(w.attention_norm, view(x, d), view(x, d));
  prepare(w.ffn_norm, "ln2");
  ffn(layer, step_plan);
  add_ffn(layer, step_plan);
  if (!norm_first) normalise(w.ffn_norm, view(x, d), view(x, d));
}

void Engine::State::add_attention(int layer) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const Vector& bias = w.attention.output_bias;
  communicator.tree_all_reduce("attention", plan.attention_exchange(), sums.from(0), rows * d, sum.data());
  lap(EngineStatistics::collective);
  if (!w.attention_output_norm.weight.empty()) {
    for (int64_t row = 0; row < rows && !bias.empty(); ++row)
      add(context, MatrixView<const float>(bias.data(), 1, d), nullptr, MatrixView<float>(&sum[size_t(row * d)], 1, d));
    normalise(w.attention_output_norm, view(sum, d), view(sum, d));
    add(context, view(sum, d), nullptr, view(x, d));
  } else {
    add(context, view(sum, d), bias.empty() ? nullptr : bias.data(), view(x, d));
  }
  observe("attnResid", layer, view(x, d));
  lap(EngineStatistics::other);
}

// out += the FFN's bias: the dense one, or B.
void Engine::State::add_ffn_bias(int layer, MatrixView<float> out) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  for (int64_t row = 0; row < rows; ++row) {
    const Vector& bias = row < first_folded(w) ? w.down_bias : w.fold.fold_bias;
    if (!bias.empty())
      add(context, MatrixView<const float>(bias.data(), 1, d), nullptr, MatrixView<float>(out[row], 1, d));
  }
}

void Engine::State::add_ffn(int layer, const StepPlan& step_plan) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  communicator.tree_all_reduce("ffn", plan.ffn_exchange(), sums.from(attention_nodes.size()), rows * d, sum.data());
  lap(EngineStatistics::collective);
  add_ffn_bias(layer, view(sum, d));
  if (hook) hook->ffn(layer, step_plan, view(normed, d), view(sum, d));
  if (!w.ffn_output_norm.weight.empty()) normalise(w.ffn_output_norm, view(sum, d), view(sum, d));
  add(context, view(sum, d), nullptr, view(x, d));
  observe("mlpResid", layer, view(x, d));
  lap(EngineStatistics::other);
}

// Attention's and the FFN's outputs in one all-reduce. Where every rank sends one sum anyway, it sends one for both.
void Engine::State::add_both(int layer, const StepPlan& step_plan) {
  float* const ffn_sums = sums.from(attention_nodes.size());
  if (hook) {  // one rank: its only node is the FFN's output
    add_ffn_bias(layer, MatrixView<float>(ffn_sums, rows, d));
    hook->ffn(layer, step_plan, view(normed, d), MatrixView<float>(ffn_sums, rows, d));
  }
  if (plan.reduction() == Reduction::fast) {
    for (int64_t i = 0; i < rows * d && !attention_nodes.empty(); ++i) ffn_sums[i] += *(sums.from(0) + i);
    communicator.tree_all_reduce("attention and ffn", plan.ffn_exchange(), ffn_sums, rows * d, sum.data());
  } else {
    communicator.tree_all_reduce("attention and ffn", joint_exchange, sums.from(0), rows * d, sum.data());
  }
  lap(EngineStatistics::collective);
  if (!hook) add_ffn_bias(layer, view(sum, d));
  const Vector& bias = weights.layers[size_t(layer)].attention.output_bias;
  add(context, view(sum, d), bias.empty() ? nullptr : bias.data(), view(x, d));
  observe("mlpResid", layer, view(x, d));
  lap(EngineStatistics::other);
}

}  // namespace pleat
