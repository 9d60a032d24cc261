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
  const int64_t element = dtype == WeightFormat::f32 ? 4 : 2;
  const int64_t hidden = blueprint.hidden;
  const int64_t head_outputs = 2 * share.heads.size() + 2 * plan.kv_heads(rank).size();  // query, output; key, value
  const int64_t attention = element * hidden * blueprint.head_size * head_outputs;
  const int64_t matrices = blueprint.gated ? 3 : 2;
  const int64_t rows = matrices * hidden * share.neurons.size();
  int64_t ffn_stored = element * rows, ffn_read = element * rows;
  if (blueprint.fold) {
    ffn_stored += fold_bytes(*blueprint.fold, hidden, share.fold_inputs.size(), share.neurons.size());
    ffn_read = int64_t((1 - blueprint.fold->reduction) * 2 * double(rows));  // the reduction counts against bf16
  }
  const int64_t head = element * hidden * share.vocab.size();
  const int64_t positions =
      blueprint.positions == PositionKind::learned ? element * hidden * blueprint.max_positions : 0;
  share.bytes_stored = blueprint.layers * (attention + ffn_stored) + head * (blueprint.tied_head ? 1 : 2) + positions;
  share.bytes_read = blueprint.layers * (attention + ffn_read) + head;
  return share;
}

}  // namespace pleat
