#include "core/engine/weights.h"

#include "core/engine/weight_loader.h"

namespace pleat {
namespace {

// What every part of the loader needs to know.
struct Job {
  WeightLoader& loader;
  const Blueprint& blueprint;
  const ShardPlan& plan;
  int rank;
  WeightFormat dtype;

  WeightFormat format_of(Part part, int layer) const { return blueprint.format_of(part, layer, dtype); }
};

// Inputs `inputs` and outputs `outputs` of a part [total_inputs, total_outputs], packed from output `to` on.
void pack(Job& job, const WeightSource& source, int64_t total_inputs, int64_t total_outputs, Range inputs,
          Range outputs, PackedMatrix& matrix, int64_t to = 0) {
  if (has_planes(matrix.format()))
    return job.loader.planes(source.weight, total_inputs, total_outputs, inputs, outputs, to, matrix.planes());
  if (is_low_bit(matrix.format())) {
    if (inputs.size() > 0)
      job.loader.low_bit(source.weight, total_inputs, total_outputs, inputs, outputs, to, matrix.low_bit());
    return;
  }
  job.loader.matrix(source, total_inputs, total_outputs, inputs, outputs,
                    [&](int64_t k, int64_t n, const WeightBlock& block) { matrix.pack(k, to + n, block); });
}

// Empty where the model has no such norm.
NormWeights load_norm(Job& job, Part part, int layer, int64_t width) {
  const WeightSource source = job.blueprint.source(part, layer);
  NormWeights norm;
  if (source.weight.empty()) return norm;
  norm.weight = job.loader.vector(source.weight, width, {0, width});
  if (job.blueprint.norm_weight_plus_one)
    for (float& weight : norm.weight) weight += 1;
  if (!source.bias.empty()) norm.bias = job.loader.vector(source.bias, width, {0, width});
  return norm;
}

// Outputs of heads [heads) of one of query, key, value, packed from column `column` on; contiguous heads in one go.
void pack_heads(Job& job, Part part, int layer, Range heads, int64_t column, AttentionWeights& weights) {
  const Blueprint& blueprint = job.blueprint;
  const WeightSource source = blueprint.source(part, layer);
  const int64_t d = blueprint.hidden, head_size = blueprint.head_size;
  const int64_t all_heads = part == Part::query ? blueprint.heads : blueprint.kv_heads;
  const int64_t total = source.outputs > 0 ? source.outputs : all_heads * head_size;
  const bool together = source.group_stride == 0;
  for (int64_t head = heads.begin; head < heads.end;) {
    const int64_t group = source.group_heads, in_group = head % group;
    const int64_t count = together ? heads.size() : std::min(group - in_group, heads.end - head);
    const int64_t begin =
        source.output_begin + (together ? head * head_size : head / group * source.group_stride + in_group * head_size);
    const Range outputs{begin, begin + count * head_size};
    pack(job, source, d, total, {0, d}, outputs, weights.query_key_value, column);
    if (!source.bias.empty()) {
      const Vector bias = job.loader.vector(source.bias, total, outputs);
      std::copy(bias.begin(), bias.end(), weights.query_key_value_bias.begin() + column);
    }
    column += count * head_size;
    head += count;
  }
}

AttentionWeights load_attention(Job& job, int layer) {
  const Blueprint& blueprint = job.blueprint;
  const int64_t d = blueprint.hidden, head_size = blueprint.head_size;
  const Range heads = job.plan.heads(job.rank), kv_heads = job.plan.kv_heads(job.rank);
  const int64_t q_width = heads.size() * head_size, kv_width = kv_heads.size() * head_size;
  AttentionWeights weights;
  weights.query_key_value = PackedMatrix(job.format_of(Part::query, layer), d, q_width + 2 * kv_width, {0, d});
  weights.query_key_value_bias.assign(size_t(q_width + 2 * kv_width), 0.0f);
  pack_heads(job, Part::query, layer, heads, 0, weights);
  pack_heads(job, Part::key, layer, kv_heads, q_width, weights);
  pack_heads(job, Part::value, layer, kv_heads, q_width + kv_width, weights);

  std::vector<int64_t> leaves;
  for (int64_t head = 0; head <= heads.size(); ++head) leaves.push_back(head * head_size);
  const WeightSource output = blueprint.source(Part::attention_output, layer);
  weights.output = PackedMatrix(job.format_of(Part::attention_output, layer), q_width, d, leaves);
  pack(job, output, blueprint.heads * head_size, d, {heads.begin * head_size, heads.end * head_size}, {0, d},
       weights.output);
  if (!output.bias.empty()) weights.output_bias = job.loader.vector(output.bias, d, {0, d});
  weights.query_norm = load_norm(job, Part::query_norm, layer, head_size);
  weights.key_norm = load_norm(job, Part::key_norm, layer, head_size);
  return weights;
}

DenseFfn load_dense_ffn(Job& job, int layer) {
  const int64_t d = job.blueprint.hidden, h = job.blueprint.neurons;
  const Range neurons = job.plan.neurons(job.rank);
  DenseFfn ffn;
  const auto pack_neurons = [&](Part part, PackedMatrix& matrix) {
    matrix = PackedMatrix(job.format_of(part, layer), d, neurons.size(), {0, d});
    pack(job, job.blueprint.source(part, layer), d, h, {0, d}, neurons, matrix);
  };
  if (job.blueprint.gated) pack_neurons(Part::ffn_gate, ffn.gate);
  pack_neurons(Part::ffn_up, ffn.up);
  ffn.down = PackedMatrix(job.format_of(Part::ffn_down, layer), neurons.size(), d, job.plan.neuron_offsets(job.rank));
  pack(job, job.blueprint.source(Part::ffn_down, layer), h, d, neurons, {0, d}, ffn.down);
  return ffn;
}

WeightBlock transposed(const WeightBlock& block) {
  return {block.data, block.dtype, block.outputs, block.inputs, block.output_stride, block.input_stride};
}

void load_fold(Job& job, int layer, FoldedFfn& ffn) {
  const FoldSpec& spec = *job.blueprint.fold;
  const int64_t d = job.blueprint.hidden;
  const Range inputs = job.plan.fold_inputs(job.rank);
  const auto name = [&](const char* tensor) { return FoldSpec::name(layer, tensor); };
  ffn.fold = PackedMatrix(spec.fold_format, inputs.size(), d, job.plan.fold_offsets(job.rank));
  if (is_low_bit(spec.fold_format)) {
    if (inputs.size() > 0) job.loader.low_bit(name("fold"), d, d, inputs, {0, d}, 0, ffn.fold.low_bit());
  } else {
    pack(job, {name("fold.weight"), "", true}, d, d, inputs, {0, d}, ffn.fold);
  }
  ffn.fold_bias = job.loader.vector(name("fold.bias"), d, {0, d});
}

// A low-bit copy of this rank's neurons: `tensor`.codes, .scale and .minimum.
LowBitMatrix load_predictor(Job& job, int layer, const char* tensor) {
  const int64_t d = job.blueprint.hidden, h = job.blueprint.neurons;
  const Range neurons = job.plan.neurons(job.rank);
  LowBitMatrix predictor(job.blueprint.fold->predictor_bits, neurons.size(), d);
  job.loader.low_bit(FoldSpec::name(layer, tensor), d, h, {0, d}, neurons, 0, predictor);
  return predictor;
}

NeuronRows load_input_rows(Job& job, Part part, int layer) {
  const int64_t d = job.blueprint.hidden;
  const Range neurons = job.plan.neurons(job.rank);
  NeuronRows rows(job.dtype, neurons.size(), d);
  job.loader.matrix(job.blueprint.source(part, layer), d, job.blueprint.neurons, {0, d}, neurons,
                    [&](int64_t k, int64_t n, const WeightBlock& block) { rows.pack(n, k, transposed(block)); });
  return rows;
}

// Who is computed exactly, and the lines of the others.
void load_selection(Job& job, int layer, FoldedFfn& ffn) {
  const int64_t d = job.blueprint.hidden, h = job.blueprint.neurons;
  const Range neurons = job.plan.neurons(job.rank);
  const SelectionKind kind = job.blueprint.fold->selection;
  const auto vector = [&](const char* tensor) { return job.loader.vector(FoldSpec::name(layer, tensor), h, neurons); };
  ffn.slope = vector("slope");
  ffn.intercept = vector("intercept");
  if (has_predictor(kind)) ffn.predictor = load_predictor(job, layer, "predictor");
  if (!is_for_gated(kind)) {
    ffn.range_low = vector("range.low");
    ffn.range_high = vector("range.high");
    return;
  }
  if (kind == SelectionKind::gate) {
    ffn.gate = PackedMatrix(job.dtype, d, neurons.size(), {0, d});
    pack(job, job.blueprint.source(Part::ffn_gate, layer), d, h, {0, d}, neurons, ffn.gate);
  } else {
    ffn.gate_rows = load_input_rows(job, Part::ffn_gate, layer);
    ffn.gate_predictor = load_predictor(job, layer, "gate_predictor");
  }
  ffn.gate_slope = vector("gate_slope");
  ffn.factor = vector("factor");
  ffn.threshold = job.loader.vector(FoldSpec::name(layer, "threshold"), 1, {0, 1})[0];
}

FoldedFfn load_folded_ffn(Job& job, int layer) {
  const int64_t d = job.blueprint.hidden, h = job.blueprint.neurons;
  const Range neurons = job.plan.neurons(job.rank);
  FoldedFfn ffn;
  ffn.up = load_input_rows(job, Part::ffn_up, layer);
  ffn.down = NeuronRows(job.dtype, neurons.size(), d);
  job.loader.matrix(job.blueprint.source(Part::ffn_down, layer), h, d, neurons, {0, d},
                    [&](int64_t k, int64_t n, const WeightBlock& block) { ffn.down.pack(k, n, block); });
  load_fold(job, layer, ffn);
  load_selection(job, layer, ffn);
  return ffn;
}

// Zeros where the model has none.
Vector load_neuron_bias(Job& job, Part part, int layer) {
  const Range neurons = job.plan.neurons(job.rank);
  const std::string name = job.blueprint.source(part, layer).bias;
  if (name.empty()) return Vector(size_t(neurons.size()), 0.0f);
  return job.loader.vector(name, job.blueprint.neurons, neurons);
}

LayerWeights load_layer(Job& job, int layer, bool folded) {
  const int64_t d = job.blueprint.hidden;
  LayerWeights weights;
  weights.attention_norm = load_norm(job, Part::attention_norm, layer, d);
  weights.attention = load_attention(job, layer);
  weights.attention_output_norm = load_norm(job, Part::attention_output_norm, layer, d);
  weights.ffn_norm = load_norm(job, Part::ffn_norm, layer, d);
  weights.ffn_output_norm = load_norm(job, Part::ffn_output_norm, layer, d);
  weights.folded = folded;
  if (folded)
    weights.fold = load_folded_ffn(job, layer);
  else
    weights.dense = load_dense_ffn(job, layer);
  weights.up_bias = load_neuron_bias(job, Part::ffn_up, layer);
  if (job.blueprint.gated) weights.gate_bias = load_neuron_bias(job, Part::ffn_gate, layer);
  const std::string down_bias = job.blueprint.source(Part::ffn_down, layer).bias;
  if (!down_bias.empty()) weights.down_bias = job.loader.vector(down_bias, d, {0, d});
  return weights;
}

// A small matrix that every rank holds.
PackedMatrix load_whole(Job& job, Part part, int64_t inputs, int64_t outputs) {
  PackedMatrix matrix(job.dtype, inputs, outputs, {0, inputs});
  pack(job, job.blueprint.source(part, 0), inputs, outputs, {0, inputs}, {0, outputs}, matrix);
  return matrix;
}

// `rows` of a table [total, width].
NeuronRows load_table(Job& job, Part part, int64_t total, int64_t width, Range rows) {
  NeuronRows table(job.dtype, rows.size(), width);
  job.loader.matrix(job.blueprint.source(part, 0), width, total, {0, width}, rows,
                    [&](int64_t k, int64_t n, const WeightBlock& block) { table.pack(n, k, transposed(block)); });
  return table;
}

// What stands before the layers and after them.
void load_embedding(Job& job, Weights& weights) {
  const Blueprint& blueprint = job.blueprint;
  const int64_t d = blueprint.hidden, e = blueprint.embedding;
  const Range vocab = job.plan.vocab(job.rank);
  const WeightSource head = blueprint.source(Part::head, 0);
  weights.head = PackedMatrix(job.format_of(Part::head, 0), e, vocab.size(), {0, e});
  pack(job, head, e, blueprint.vocab, {0, e}, vocab, weights.head);
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
}

}  // namespace

size_t Weights::bytes() const {
  size_t sum = head.bytes() + token_embedding.bytes() + position_embedding.bytes() + embedding_input.bytes() +
               embedding_output.bytes();
  for (const LayerWeights& layer : layers) {
    sum += layer.attention.query_key_value.bytes() + layer.attention.output.bytes();
    sum += layer.dense.gate.bytes() + layer.dense.up.bytes() + layer.dense.down.bytes();
    const FoldedFfn& fold = layer.fold;
    sum += fold.fold.bytes() + fold.predictor.bytes() + fold.gate_predictor.bytes() + fold.gate.bytes() +
           fold.gate_rows.bytes() + fold.up.bytes() + fold.down.bytes();
  }
  return sum;
}

Weights load_weights(const Checkpoint& checkpoint, const Blueprint& blueprint, const ShardPlan& plan, int rank,
                     WeightFormat dtype, bool dense, const std::function<void()>& after_layer) {
  WeightLoader loader(checkpoint);
  Job job{loader, blueprint, plan, rank, dtype};
  Weights weights;
  load_embedding(job, weights);
  weights.final_norm = load_norm(job, Part::final_norm, 0, blueprint.hidden);
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    weights.layers.push_back(with_context(
        concat("layer ", layer), [&] { return load_layer(job, layer, blueprint.fold.has_value() && !dense); }));
    after_layer();
  }
  return weights;
}

}  // namespace pleat
