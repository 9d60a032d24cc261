#include "core/engine/weights.h"

#include <mutex>
#include <utility>

#include "core/engine/weight_job.h"

namespace pleat {
namespace {

// Empty where the model has no such norm.
NormWeights load_norm(WeightJob& job, Part part, int layer, int64_t width) {
  const WeightSource source = job.blueprint.source(part, layer);
  NormWeights norm;
  if (source.weight.empty()) return norm;
  norm.weight = job.loader.vector(source.weight, width, {0, width});
  if (job.blueprint.norm_weight_plus_one)
    for (float& weight : norm.weight) weight += 1;
  if (!source.bias.empty()) norm.bias = job.loader.vector(source.bias, width, {0, width});
  return norm;
}

// Outputs of a tensor that has `total`, to the columns of query_key_value from `column` on.
struct HeadPiece {
  WeightSource source;
  int64_t total;
  Range outputs;
  int64_t column;
};

// Heads [heads) of one of query, key, value, from column `column` on. What stands side by side in the same tensor is
// one piece: rows that are read whole are read in few large pieces.
void add_heads(const WeightJob& job, Part part, int layer, Range heads, int64_t column,
               std::vector<HeadPiece>& pieces) {
  const Blueprint& blueprint = job.blueprint;
  const WeightSource source = blueprint.source(part, layer);
  const int64_t head_size = blueprint.head_size;
  const int64_t all_heads = part == Part::query ? blueprint.heads : blueprint.kv_heads;
  const int64_t total = source.outputs > 0 ? source.outputs : all_heads * head_size;
  const bool together = source.group_stride == 0;
  for (int64_t head = heads.begin; head < heads.end;) {
    const int64_t group = source.group_heads, in_group = head % group;
    const int64_t count = together ? heads.size() : std::min(group - in_group, heads.end - head);
    const int64_t begin =
        source.output_begin + (together ? head * head_size : head / group * source.group_stride + in_group * head_size);
    const Range outputs{begin, begin + count * head_size};
    HeadPiece* const last = pieces.empty() ? nullptr : &pieces.back();
    if (last && last->source.weight == source.weight && last->outputs.end == outputs.begin &&
        last->column + last->outputs.size() == column)
      last->outputs.end = outputs.end;
    else
      pieces.push_back({source, total, outputs, column});
    column += count * head_size;
    head += count;
  }
}

AttentionWeights load_attention(WeightJob& job, int layer) {
  const Blueprint& blueprint = job.blueprint;
  const int64_t d = blueprint.hidden, head_size = blueprint.head_size;
  const Range heads = job.plan.heads(job.rank), kv_heads = job.plan.kv_heads(job.rank);
  const int64_t q_width = heads.size() * head_size, kv_width = kv_heads.size() * head_size;
  AttentionWeights weights;
  weights.query_key_value = PackedMatrix(job.format_of(Part::query, layer), d, q_width + 2 * kv_width, {0, d});
  weights.query_key_value_bias.assign(size_t(q_width + 2 * kv_width), 0.0f);
  std::vector<HeadPiece> pieces;
  add_heads(job, Part::query, layer, heads, 0, pieces);
  add_heads(job, Part::key, layer, kv_heads, q_width, pieces);
  add_heads(job, Part::value, layer, kv_heads, q_width + kv_width, pieces);
  for (const HeadPiece& piece : pieces) {
    job.pack(piece.source, d, piece.total, {0, d}, piece.outputs, weights.query_key_value, piece.column);
    if (piece.source.bias.empty()) continue;
    const Vector bias = job.loader.vector(piece.source.bias, piece.total, piece.outputs);
    std::copy(bias.begin(), bias.end(), weights.query_key_value_bias.begin() + piece.column);
  }

  std::vector<int64_t> leaves;
  for (int64_t head = 0; head <= heads.size(); ++head) leaves.push_back(head * head_size);
  const WeightSource output = blueprint.source(Part::attention_output, layer);
  weights.output = PackedMatrix(job.format_of(Part::attention_output, layer), q_width, d, leaves);
  job.pack(output, blueprint.heads * head_size, d, {heads.begin * head_size, heads.end * head_size}, {0, d},
           weights.output);
  if (!output.bias.empty()) weights.output_bias = job.loader.vector(output.bias, d, {0, d});
  weights.query_norm = load_norm(job, Part::query_norm, layer, head_size);
  weights.key_norm = load_norm(job, Part::key_norm, layer, head_size);
  return weights;
}

// All of a layer but its FFN.
void load_rest(WeightJob& job, int layer, LayerWeights& weights) {
  const int64_t d = job.blueprint.hidden;
  weights.attention_norm = load_norm(job, Part::attention_norm, layer, d);
  weights.attention = load_attention(job, layer);
  weights.attention_output_norm = load_norm(job, Part::attention_output_norm, layer, d);
  weights.ffn_norm = load_norm(job, Part::ffn_norm, layer, d);
  weights.ffn_output_norm = load_norm(job, Part::ffn_output_norm, layer, d);
}

// A small matrix that every rank holds.
PackedMatrix load_whole(WeightJob& job, Part part, int64_t inputs, int64_t outputs) {
  PackedMatrix matrix(job.dtype, inputs, outputs, {0, inputs});
  job.pack(job.blueprint.source(part, 0), inputs, outputs, {0, inputs}, {0, outputs}, matrix);
  return matrix;
}

// `rows` of a table [total, width].
NeuronRows load_table(WeightJob& job, Part part, int64_t total, int64_t width, Range rows) {
  NeuronRows table(job.dtype, rows.size(), width);
  job.loader.matrix(job.blueprint.source(part, 0), width, total, {0, width}, rows, 0,
                    [&](int64_t k, int64_t n, const WeightBlock& block) { table.pack(n, k, transposed(block)); });
  return table;
}

// What stands before the layers and after them.
void load_embedding(WeightJob& job, OuterWeights& weights) {
  const Blueprint& blueprint = job.blueprint;
  const int64_t d = blueprint.hidden, e = blueprint.embedding;
  const Range vocab = job.plan.vocab(job.rank);
  const WeightSource head = blueprint.source(Part::head, 0);
  weights.head = PackedMatrix(job.format_of(Part::head, 0), e, vocab.size(), {0, e});
  job.pack(head, e, blueprint.vocab, {0, e}, vocab, weights.head);
  if (!head.bias.empty()) weights.head_bias = job.loader.vector(head.bias, blueprint.vocab, vocab);
  if (!blueprint.tied_head) weights.token_embedding = load_table(job, Part::token_embedding, blueprint.vocab, e, vocab);
  if (blueprint.positions == PositionKind::learned) {
    const int64_t positions = blueprint.max_positions + blueprint.position_offset;
    weights.position_embedding = load_table(job, Part::position_embedding, positions, d, {0, positions});
  }
  weights.embedding_norm = load_norm(job, Part::embedding_norm, 0, d);
  if (e != d) {
    weights.embedding_input = load_whole(job, Part::embedding_input, e, d);
    weights.embedding_output = load_whole(job, Part::embedding_output, d, e);
  }
  weights.final_norm = load_norm(job, Part::final_norm, 0, d);
}

}  // namespace

const NeuronRows* LayerWeights::deciding_rows() const {
  if (spec.selection != SelectionKind::gate && spec.selection != SelectionKind::threshold) return nullptr;
  if (dense.gate.outputs() > 0 || dense.up.outputs() > 0 || spec.cuts_inputs) return nullptr;
  return fold.gate.neurons() > 0 ? &fold.gate : &fold.up;
}

void LayerWeights::lay_gathered_rows() {
  std::vector<NeuronRows*> gathered;
  for (NeuronRows* rows : {&fold.gate, &fold.up, &fold.down})
    if (rows->neurons() > 0 && rows != deciding_rows()) gathered.push_back(rows);
  lay_side_by_side(gathered);
}

size_t LayerWeights::deciding_bytes() const {
  const NeuronRows* const rows = deciding_rows();
  return rows ? rows->bytes() : dense.gate.bytes() + dense.up.bytes();
}

size_t LayerWeights::exact_bytes() const {
  return dense.gate.bytes() + dense.up.bytes() + dense.down.bytes() + fold.gate.bytes() + fold.up.bytes() +
         fold.down.bytes() + by_input.gate.bytes() + by_input.up.bytes();
}

size_t LayerWeights::bytes() const {
  return attention.query_key_value.bytes() + attention.output.bytes() + fold.fold.bytes() + fold.predictor.bytes() +
         fold.gate_predictor.bytes() + exact_bytes();
}

size_t OuterWeights::bytes() const {
  return head.bytes() + token_embedding.bytes() + position_embedding.bytes() + embedding_input.bytes() +
         embedding_output.bytes();
}

size_t Weights::bytes() const {
  size_t sum = OuterWeights::bytes() + taken_bytes;
  for (const LayerWeights& layer : layers) sum += layer.bytes();
  return sum;
}

size_t hand_over(WeightTaker& taker, int layer, LayerWeights& weights) {
  const size_t bytes = weights.bytes();
  LayerShape shape = weights;
  taker.take(layer, std::exchange(weights, {}));
  static_cast<LayerShape&>(weights) = std::move(shape);
  return bytes;
}

size_t hand_over(WeightTaker& taker, OuterWeights& weights) {
  const size_t bytes = weights.bytes();
  taker.take(std::exchange(weights, {}));
  return bytes;
}

Weights load_weights(const Checkpoint& checkpoint, const Blueprint& blueprint, const ShardPlan& plan, int rank,
                     WeightFormat dtype, bool dense, ThreadTeam& team, const LoadSigns& signs, WeightTaker* taker) {
  Weights weights;
  weights.layers.resize(size_t(blueprint.layers));
  std::mutex mutex;  // of the next two, weights.taken_bytes and signs.after_part()
  std::vector<int> missing(size_t(blueprint.layers), 2);
  int done = 0;
  // Part 0 is what stands around the layers; then, for each layer, its FFN and the rest.
  const int parts = 2 * blueprint.layers + 1;
  const auto load_layer_part = [&](WeightJob& job, int64_t part) {
    const size_t layer = size_t(part - 1) / 2;
    LayerWeights& mine = weights.layers[layer];
    part % 2 == 0 ? load_ffn(job, int(layer), dense, mine) : load_rest(job, int(layer), mine);
    if (!taker && part % 2 == 0 && mine.folded) mine.lay_gathered_rows();
    const auto is_last = [&] { return std::lock_guard(mutex), --missing[layer] == 0; };
    return taker && is_last() ? hand_over(*taker, int(layer), mine) : 0;
  };
  team.try_each(parts, [&](int, int64_t part) {
    WeightLoader loader(checkpoint, signs.alive);
    WeightJob job{loader, blueprint, plan, rank, dtype};
    size_t taken = 0;
    if (part == 0) {
      load_embedding(job, weights);
      if (taker) taken = hand_over(*taker, weights);
    } else {
      with_context(concat("layer ", (part - 1) / 2), [&] { taken = load_layer_part(job, part); });
    }
    const std::lock_guard lock(mutex);
    weights.taken_bytes += taken;
    signs.after_part(++done, parts);
  });
  return weights;
}

}  // namespace pleat
