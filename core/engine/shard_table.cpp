#include "core/engine/shard_table.h"

namespace pleat {
namespace {

// Of `held` of all neurons, rounded.
int64_t part(int64_t bytes, int64_t held, int64_t all) { return bytes * held / all; }

}  // namespace

RankShare share_of(const Blueprint& blueprint, const ShardPlan& plan, int rank, WeightFormat dtype) {
  RankShare share{plan.heads(rank), plan.neurons(rank), plan.fold_inputs(rank), plan.vocab(rank)};
  const int64_t hidden = blueprint.hidden, head_size = blueprint.head_size, neurons = share.neurons.size();
  const int64_t query_key_value = (share.heads.size() + 2 * plan.kv_heads(rank).size()) * head_size;
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    const auto bytes = [&](Part part, int64_t inputs, int64_t outputs) {
      return matrix_bytes(blueprint.format_of(part, layer, dtype), inputs, outputs);
    };
    const int64_t attention = bytes(Part::query, hidden, query_key_value) +
                              bytes(Part::attention_output, share.heads.size() * head_size, hidden);
    const FfnBytes ffn = ffn_bytes(blueprint.layer_fold(layer), blueprint.ffn_formats(layer, dtype), blueprint.gated,
                                   hidden, blueprint.neurons);
    share.bytes_stored += attention + part(ffn.stored, neurons, blueprint.neurons);
    share.bytes_read += attention;
    // What a selection reads is known of all layers together: the reduction counts against bf16.
    share.bytes_read +=
        blueprint.fold ? int64_t((1 - blueprint.fold->reduction) * double(part(ffn.dense, neurons, blueprint.neurons)))
                       : part(ffn.fixed, neurons, blueprint.neurons);
  }
  const int64_t head = matrix_bytes(blueprint.format_of(Part::head, 0, dtype), blueprint.embedding, share.vocab.size());
  share.bytes_read += head;
  share.bytes_stored += head;
  if (!blueprint.tied_head) share.bytes_stored += matrix_bytes(dtype, blueprint.embedding, share.vocab.size());
  if (blueprint.positions == PositionKind::learned)
    share.bytes_stored += matrix_bytes(dtype, hidden, blueprint.max_positions);
  return share;
}

}  // namespace pleat
