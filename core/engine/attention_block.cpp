// x += Wo attention(Wqkv norm(x)): heads are split, the output projection's partial sums are all-reduced.
#include "core/engine/engine_state.h"
#include "kernels/layer_norm.h"

namespace pleat {

void Engine::State::attention_block(int layer) {
  const LayerWeights& w = weights.layers[size_t(layer)];
  const AttentionWeights& a = w.attention;
  layer_norm(context, view(x, d), w.attention_norm.weight.data(),
             w.attention_norm.bias.empty() ? nullptr : w.attention_norm.bias.data(), blueprint.norm_epsilon,
             view(normed, d));
  observe("ln1", layer, view(normed, d));
  lap(EngineStatistics::other);

  attention_sums.begin(rows);
  if (q_width > 0) {
    const int64_t width = q_width + 2 * kv_width;
    const auto columns = [&](int64_t begin, int64_t count) {
      return MatrixView<float>(query_key_value.data() + begin, rows, count, width);
    };
    matmul(context, view(normed, d), a.query_key_value, a.query_key_value_bias.data(), columns(0, width));
    observe("q", layer, columns(0, q_width));
    observe("k", layer, columns(q_width, kv_width));
    observe("v", layer, columns(q_width + kv_width, kv_width));
    append_kv(context, columns(q_width, kv_width), columns(q_width + kv_width, kv_width), attention_rows,
              caches[size_t(layer)]);
    attention(context, columns(0, q_width), attention_rows, caches[size_t(layer)], kv_of_head,
              blueprint.attention_scale, view(attended, q_width));
    observe("y", layer, view(attended, q_width));
    attention_sums.fill(0, rows, [&](float* out) {
      matmul_nodes(context, view(attended, q_width), a.output, int(plan.heads(rank).begin), attention_nodes, out);
    });
  }
  lap(EngineStatistics::attention, a.query_key_value.bytes() + a.output.bytes());

  communicator.tree_all_reduce("attention", plan.attention_exchange(), attention_sums.values(), rows * d, sum.data());
  lap(EngineStatistics::collective);
  add(context, view(sum, d), a.output_bias.empty() ? nullptr : a.output_bias.data(), view(x, d));
  observe("attnResid", layer, view(x, d));
  lap(EngineStatistics::other);
}

}  // namespace pleat
