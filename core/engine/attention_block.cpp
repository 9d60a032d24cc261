// Attention of this rank's heads, up to its partial sums of the output projection.
#include "core/engine/engine_state.h"
#include "kernels/layer_norm.h"

namespace pleat {

AttentionScores Engine::State::scores(int layer) const {
  AttentionScores rule;
  rule.scale = blueprint.attention_scale;
  rule.soft_cap = blueprint.attention_soft_cap;
  rule.window = blueprint.attention[size_t(layer)].window;
  if (blueprint.positions == PositionKind::alibi) {
    rule.slopes = blueprint.alibi_slopes.data() + plan.heads(rank).begin;
    rule.slope_scale = blueprint.alibi_scale;
    rule.bias_in_bf16 = blueprint.alibi_in_bf16;
  }
  return rule;
}

void Engine::State::prepare_rotaries() {
  for (size_t i = 0; i < blueprint.rotaries.size(); ++i)
    compute_angles(context, blueprint.rotaries[i], attention_rows, angles[i]);
}

void Engine::State::position_heads(int layer) {
  const AttentionWeights& a = weights.layers[size_t(layer)].attention;
  const int64_t width = q_width + 2 * kv_width, head_size = blueprint.head_size;
  const auto norm_heads = [&](const NormWeights& norm, int64_t begin, int64_t columns) {
    if (norm.weight.empty()) return;
    for (int64_t row = 0; row < rows; ++row) {
      const MatrixView<float> heads(&query_key_value[size_t(row * width + begin)], columns / head_size, head_size);
      normalise(norm, heads, heads);
    }
  };
  norm_heads(a.query_norm, 0, q_width);
  norm_heads(a.key_norm, q_width, kv_width);
  const int kind = blueprint.attention[size_t(layer)].rotary;
  if (blueprint.positions == PositionKind::rotary && kind >= 0)
    rotate(context, blueprint.rotaries[size_t(kind)], angles[size_t(kind)], int(head_size),
           MatrixView<float>(query_key_value.data(), rows, q_width + kv_width, width));
}

void Engine::State::attend(int layer) {
  if (q_width == 0) return key_channels.choose(layer, context, communicator, caches[size_t(layer)]);
  const AttentionWeights& a = weights.layers[size_t(layer)].attention;
  const int64_t width = q_width + 2 * kv_width;
  const auto columns = [&](int64_t begin, int64_t count) {
    return MatrixView<float>(query_key_value.data() + begin, rows, count, width);
  };
  matmul(context, view(normed, d), a.query_key_value, a.query_key_value_bias.data(), columns(0, width));
  position_heads(layer);
  observe("q", layer, columns(0, q_width));
  observe("k", layer, columns(q_width, kv_width));
  observe("v", layer, columns(q_width + kv_width, kv_width));
  KvCache& cache = caches[size_t(layer)];
  append_kv(context, columns(q_width, kv_width), columns(q_width + kv_width, kv_width), attention_rows, cache);
  key_channels.observe(layer, columns(0, q_width), attention_rows);
  key_channels.choose(layer, context, communicator, cache);
  for (const KeyChannels::Run& run : key_channels.runs()) {
    compact_keys(context, run.compactions, cache);
    const MatrixView<const float> q(query_key_value.data() + run.begin * width, run.count, q_width, width);
    const MatrixView<float> out(attended.data() + run.begin * q_width, run.count, q_width);
    attention(context, q, std::span(attention_rows).subspan(size_t(run.begin), size_t(run.count)), cache, kv_of_head,
              scores(layer), out);
  }
  observe("y", layer, view(attended, q_width));
  sums.fill(0, attention_nodes.size(), 0, rows, [&](float* out) {
    matmul_nodes(context, view(attended, q_width), a.output, int(plan.heads(rank).begin), attention_nodes, out);
  });
  lap(EngineStatistics::attention, a.query_key_value.bytes() + a.output.bytes());
}

}  // namespace pleat
