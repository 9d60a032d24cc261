#include "launcher/shard_table.h"

namespace pleat {
namespace {

int64_t groups(int64_t inputs) { return (inputs + kGroup - 1) / kGroup; }

// Of one layer: fold, predictors, ranges and lines; the exact rows come on top.
int64_t fold_bytes(const FoldSpec& spec, int64_t hidden, int64_t inputs, int64_t neurons) {
  constexpr int64_t kScale = 2, kNumbers = 4 * 4;  // a neuron: range and line, or c, e, f and the factor
  const int64_t fold =
      spec.fold_format == WeightFormat::int8 ? inputs * hidden + kScale * groups(inputs) * hidden : 2 * inputs * hidden;
  if (!has_predictor(spec.selection)) return fold + neurons * kNumbers;
  const int64_t predictor = (hidden * spec.predictor_bits + 7) / 8 + 2 * kScale * groups(hidden);
  return fold + neurons * ((is_for_gated(spec.selection) ? 2 : 1) * predictor + kNumbers);
}

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
    int64_t ffn = bytes(Part::ffn_up, hidden, neurons) + bytes(Part::ffn_down, neurons, hidden);
    if (blueprint.gated) ffn += bytes(Part::ffn_gate, hidden, neurons);
    share.bytes_stored += attention + ffn;
    share.bytes_read += attention;
    if (blueprint.fold) {
      share.bytes_stored += fold_bytes(*blueprint.fold, hidden, share.fold_inputs.size(), neurons);
      const int64_t dense = (blueprint.gated ? 3 : 2) * 2 * hidden * neurons;  // the reduction counts against bf16
      share.bytes_read += int64_t((1 - blueprint.fold->reduction) * double(dense));
    } else {
      share.bytes_read += ffn;
    }
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
