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
};

NormWeights load_norm(Job& job, Part part, int layer) {
  const WeightSource source = job.blueprint.source(part, layer);
  const int64_t d = job.blueprint.hidden;
  NormWeights norm;
  norm.weight = job.loader.vector(source.weight, d, {0, d});
  if (!source.bias.empty()) norm.bias = job.loader.vector(source.bias, d, {0, d});
  return norm;
}

// Outputs of heads [heads) of one of query, key, value, packed from column `column` on; contiguous heads in one go.
void pack_heads(Job& job, Part part, int layer, Range heads, int64_t column, AttentionWeights& weights) {
  const Blueprint& blueprint = job.blueprint;
  const WeightSource source = blueprint.source(part, layer);
  const int64_t d = blueprint.hidden, head_size = blueprint.head_size;
  const TensorInfo& info = job.loader.checkpoint().require(source.weight);
  PLEAT_REQUIRE(info.shape.size() == 2, "tensor '", source.weight, "' is not a matrix");
  const int64_t total = source.input_major ? info.shape[1] : info.shape[0];
  const int64_t expected = int64_t(blueprint.heads + 2 * blueprint.kv_heads) * head_size;
  const bool together = source.head_stride == head_size;
  for (int64_t head = heads.begin; head < heads.end; head = together ? heads.end : head + 1) {
    const int64_t count = together ? heads.size() : 1;
    const Range outputs{source.output_begin + head * source.head_stride,
                        source.output_begin + head * source.head_stride + count * head_size};
    job.loader.matrix(source, d, expected, {0, d}, outputs,
                      [&](int64_t input, int64_t output, const WeightBlock& block) {
                        weights.query_key_value.pack(input, column + output, block);
                      });
    if (!source.bias.empty()) {
      const Vector bias = job.loader.vector(source.bias, total, outputs);
      std::copy(bias.begin(), bias.end(), weights.query_key_value_bias.begin() + column);
    }
    column += count * head_size;
  }
}

AttentionWeights load_attention(Job& job, int layer) {
  const Blueprint& blueprint = job.blueprint;
  const int64_t d = blueprint.hidden, head_size = blueprint.head_size;
  const Range heads = job.plan.heads(job.rank), kv_heads = job.plan.kv_heads(job.rank);
  const int64_t q_width = heads.size() * head_size, kv_width = kv_heads.size() * head_size;
  AttentionWeights weights;
  weights.query_key_value = PackedMatrix(job.dtype, d, q_width + 2 * kv_width, {0, d});
  weights.query_key_value_bias.assign(size_t(q_width + 2 * kv_width), 0.0f);
  pack_heads(job, Part::query, layer, heads, 0, weights);
  pack_heads(job, Part::key, layer, kv_heads, q_width, weights);
  pack_heads(job, Part::value, layer, kv_heads, q_width + kv_width, weights);

  std::vector<int64_t> leaves;
  for (int64_t head = 0; head <= heads.size(); ++head) leaves.push_back(head * head_size);
  const WeightSource output = blueprint.source(Part::attention_output, layer);
  weights.output = PackedMatrix(job.dtype, q_width, d, leaves);
  job.loader.matrix(output, blueprint.heads * head_size, d, {heads.begin * head_size, heads.end * head_size}, {0, d},
                    [&](int64_t k, int64_t n, const WeightBlock& block) { weights.output.pack(k, n, block); });
  if (!output.bias.empty()) weights.output_bias = job.loader.vector(output.bias, d, {0, d});
  return weights;
}

DenseFfn load_dense_ffn(Job& job, int layer) {
  const int64_t d = job.blueprint.hidden, h = job.blueprint.neurons;
  const Range neurons = job.plan.neurons(job.rank);
  DenseFfn ffn;
  ffn.up = PackedMatrix(job.dtype, d, neurons.size(), {0, d});
  job.loader.matrix(job.blueprint.source(Part::ffn_up, layer), d, h, {0, d}, neurons,
                    [&](int64_t k, int64_t n, const WeightBlock& block) { ffn.up.pack(k, n, block); });
  ffn.down = PackedMatrix(job.dtype, neurons.size(), d, job.plan.neuron_offsets(job.rank));
  job.loader.matrix(job.blueprint.source(Part::ffn_down, layer), h, d, neurons, {0, d},
                    [&](int64_t k, int64_t n, const WeightBlock& block) { ffn.down.pack(k, n, block); });
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
  const auto pack = [&](int64_t k, int64_t n, const WeightBlock& block) { ffn.fold.pack(k, n, block); };
  if (spec.fold_format == WeightFormat::int8) {
    const WeightSource codes{name("fold.codes"), "", true};
    PLEAT_REQUIRE(job.loader.checkpoint().require(codes.weight).dtype == DType::i8, "tensor '", codes.weight,
                  "' is not I8");
    job.loader.matrix(codes, d, d, inputs, {0, d}, pack);
    const int64_t groups = (d + kGroup - 1) / kGroup;
    const Range mine{inputs.begin / kGroup, (inputs.end + kGroup - 1) / kGroup};
    if (inputs.size() > 0)
      job.loader.matrix({name("fold.scales"), "", true}, groups, d, mine, {0, d},
                        [&](int64_t k, int64_t n, const WeightBlock& block) { ffn.fold.pack_scales(k, n, block); });
  } else {
    job.loader.matrix({name("fold.weight"), "", true}, d, d, inputs, {0, d}, pack);
  }
  ffn.fold_bias = job.loader.vector(name("fold.bias"), d, {0, d});
}

void load_predictor(Job& job, int layer, FoldedFfn& ffn) {
  const int64_t d = job.blueprint.hidden, h = job.blueprint.neurons;
  const int bits = job.blueprint.fold->predictor_bits;
  const int64_t groups = (d + kGroup - 1) / kGroup, code_bytes = (d * bits + 7) / 8;
  const Range neurons = job.plan.neurons(job.rank);
  const auto name = [&](const char* tensor) { return FoldSpec::name(layer, tensor); };
  ffn.predictor = LowBitMatrix(bits, neurons.size(), d);
  std::vector<bf16> scale(size_t(neurons.size() * groups)), minimum(scale.size());
  const auto into = [&](std::vector<bf16>& all) {
    return [&](int64_t row, const bf16* data, int64_t count) {
      std::copy(data, data + count * groups, &all[size_t(row * groups)]);
    };
  };
  job.loader.rows<bf16>(name("predictor.scale"), DType::bf16, h, groups, neurons, into(scale));
  job.loader.rows<bf16>(name("predictor.minimum"), DType::bf16, h, groups, neurons, into(minimum));
  job.loader.rows<uint8_t>(name("predictor.codes"), DType::u8, h, code_bytes, neurons,
                           [&](int64_t row, const uint8_t* codes, int64_t count) {
                             ffn.predictor.pack(row, count, codes, &scale[size_t(row * groups)],
                                                &minimum[size_t(row * groups)]);
                           });
  ffn.range_low = job.loader.vector(name("range.low"), h, neurons);
  ffn.range_high = job.loader.vector(name("range.high"), h, neurons);
  ffn.slope = job.loader.vector(name("slope"), h, neurons);
  ffn.intercept = job.loader.vector(name("intercept"), h, neurons);
}

FoldedFfn load_folded_ffn(Job& job, int layer) {
  const int64_t d = job.blueprint.hidden, h = job.blueprint.neurons;
  const Range neurons = job.plan.neurons(job.rank);
  FoldedFfn ffn;
  ffn.up = NeuronRows(job.dtype, neurons.size(), d);
  job.loader.matrix(job.blueprint.source(Part::ffn_up, layer), d, h, {0, d}, neurons,
                    [&](int64_t k, int64_t n, const WeightBlock& block) { ffn.up.pack(n, k, transposed(block)); });
  ffn.down = NeuronRows(job.dtype, neurons.size(), d);
  job.loader.matrix(job.blueprint.source(Part::ffn_down, layer), h, d, neurons, {0, d},
                    [&](int64_t k, int64_t n, const WeightBlock& block) { ffn.down.pack(k, n, block); });
  load_fold(job, layer, ffn);
  load_predictor(job, layer, ffn);
  return ffn;
}

LayerWeights load_layer(Job& job, int layer, bool folded) {
  const int64_t d = job.blueprint.hidden, h = job.blueprint.neurons;
  LayerWeights weights;
  weights.attention_norm = load_norm(job, Part::attention_norm, layer);
  weights.attention = load_attention(job, layer);
  weights.ffn_norm = load_norm(job, Part::ffn_norm, layer);
  weights.folded = folded;
  if (folded)
    weights.fold = load_folded_ffn(job, layer);
  else
    weights.dense = load_dense_ffn(job, layer);
  weights.up_bias.assign(size_t(job.plan.neurons(job.rank).size()), 0.0f);
  const std::string up_bias = job.blueprint.source(Part::ffn_up, layer).bias;
  if (!up_bias.empty()) weights.up_bias = job.loader.vector(up_bias, h, job.plan.neurons(job.rank));
  const std::string down_bias = job.blueprint.source(Part::ffn_down, layer).bias;
  if (!down_bias.empty()) weights.down_bias = job.loader.vector(down_bias, d, {0, d});
  return weights;
}

}  // namespace

size_t Weights::bytes() const {
  size_t sum = head.bytes() + token_embedding.bytes() + position_embedding.bytes();
  for (const LayerWeights& layer : layers) {
    sum += layer.attention.query_key_value.bytes() + layer.attention.output.bytes();
    sum += layer.dense.up.bytes() + layer.dense.down.bytes();
    sum += layer.fold.fold.bytes() + layer.fold.predictor.bytes() + layer.fold.up.bytes() + layer.fold.down.bytes();
  }
  return sum;
}

Weights load_weights(const Checkpoint& checkpoint, const Blueprint& blueprint, const ShardPlan& plan, int rank,
                     WeightFormat dtype, bool dense, const std::function<void()>& after_layer) {
  WeightLoader loader(checkpoint);
  Job job{loader, blueprint, plan, rank, dtype};
  const int64_t d = blueprint.hidden;
  const Range vocab = plan.vocab(rank);
  Weights weights;
  weights.head = PackedMatrix(dtype, d, vocab.size(), {0, d});
  loader.matrix(blueprint.source(Part::head, 0), d, blueprint.vocab, {0, d}, vocab,
                [&](int64_t k, int64_t n, const WeightBlock& block) { weights.head.pack(k, n, block); });
  if (!blueprint.tied_head) {
    weights.token_embedding = NeuronRows(dtype, vocab.size(), d);
    loader.matrix(
        blueprint.source(Part::token_embedding, 0), d, blueprint.vocab, {0, d}, vocab,
        [&](int64_t k, int64_t n, const WeightBlock& block) { weights.token_embedding.pack(n, k, transposed(block)); });
  }
  if (blueprint.positions == PositionKind::learned) {
    weights.position_embedding = NeuronRows(dtype, blueprint.max_positions, d);
    loader.matrix(blueprint.source(Part::position_embedding, 0), d, blueprint.max_positions, {0, d},
                  {0, blueprint.max_positions}, [&](int64_t k, int64_t n, const WeightBlock& block) {
                    weights.position_embedding.pack(n, k, transposed(block));
                  });
  }
  weights.final_norm = load_norm(job, Part::final_norm, 0);
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    weights.layers.push_back(with_context(
        concat("layer ", layer), [&] { return load_layer(job, layer, blueprint.fold.has_value() && !dense); }));
    after_layer();
  }
  return weights;
}

}  // namespace pleat
