#include "core/engine/device/device_weights.h"

#include <algorithm>

#include "core/engine/device/device_step.h"

namespace pleat {
namespace {

constexpr int64_t kBinNeurons = 64;  // at most: a block of the fix-up takes a bin's residuals

DeviceVector upload(const Vector& values, const cuda::Stream& stream) {
  return {std::span<const float>(values), stream};
}

DeviceNorm upload(const NormWeights& norm, const cuda::Stream& stream) {
  return {upload(norm.weight, stream), upload(norm.bias, stream)};
}

cuda::DeviceRows upload(const PackedMatrix& matrix, const cuda::Stream& stream) {
  if (matrix.outputs() == 0) return {};
  return {matrix, stream};
}

cuda::DeviceRows upload(const NeuronRows& rows, const cuda::Stream& stream) {
  if (rows.neurons() == 0 || rows.width() == 0) return {};
  return {rows, stream};
}

cuda::DeviceRows upload(const LowBitMatrix& matrix, const cuda::Stream& stream) {
  if (matrix.outputs() == 0) return {};
  return {matrix, stream};
}

// Each virtual shard in equal parts: first neuron of each.
std::vector<int32_t> bins(const std::vector<int64_t>& shards) {
  std::vector<int32_t> offsets = {0};
  for (size_t shard = 0; shard + 1 < shards.size(); ++shard) {
    const int64_t begin = shards[shard], count = shards[shard + 1] - begin;
    const int64_t parts = (count + kBinNeurons - 1) / kBinNeurons;
    for (int64_t part = 1; part <= parts; ++part) offsets.push_back(int32_t(begin + count * part / parts));
  }
  return offsets;
}

// A rank's leaves; where ranks send one sum each, all of them are one.
cuda::DeviceLeaves leaves(const std::vector<int64_t>& offsets, const std::vector<TreeNode>& nodes, Reduction reduction,
                          const cuda::Stream& stream) {
  if (nodes.empty()) return {};
  if (reduction == Reduction::fast) {
    const int32_t ends[] = {int32_t(offsets.front()), int32_t(offsets.back())};
    return {ends, std::vector<TreeNode>{{0, 1}}, 0, stream};
  }
  const std::vector<int32_t> starts(offsets.begin(), offsets.end());
  return {starts, nodes, nodes.front().begin, stream};
}

// The sum of those that there are.
DeviceVector biases(std::initializer_list<const Vector*> all, const cuda::Stream& stream) {
  Vector sum;
  for (const Vector* bias : all) {
    sum.resize(std::max(sum.size(), bias->size()));
    for (size_t i = 0; i < bias->size(); ++i) sum[i] += (*bias)[i];
  }
  return upload(sum, stream);
}

DeviceFold upload(const FoldedFfn& fold, const cuda::Stream& stream) {
  DeviceFold out;
  out.fold = upload(fold.fold, stream);
  out.slope = upload(fold.slope, stream);
  out.gate_slope = upload(fold.gate_slope, stream);
  out.intercept = upload(fold.intercept, stream);
  out.predictor = upload(fold.predictor, stream);
  out.gate_predictor = upload(fold.gate_predictor, stream);
  out.low = upload(fold.range_low, stream);
  out.high = upload(fold.range_high, stream);
  out.center = upload(fold.center, stream);
  out.factor = upload(fold.factor, stream);
  out.threshold = fold.threshold;
  out.input_threshold = fold.input_threshold;
  return out;
}

DeviceLayer upload(const LayerWeights& w, bool parallel_residual, const ShardPlan& plan, int rank,
                   const cuda::Stream& stream) {
  DeviceLayer out;
  out.attention_norm = upload(w.attention_norm, stream);
  out.ffn_norm = upload(w.ffn_norm, stream);
  out.attention.query_key_value = upload(w.attention.query_key_value, stream);
  out.attention.output = upload(w.attention.output, stream);
  out.attention.query_key_value_bias = upload(w.attention.query_key_value_bias, stream);
  out.attention.query_norm = upload(w.attention.query_norm, stream);
  out.attention.key_norm = upload(w.attention.key_norm, stream);
  out.attention.output_norm = upload(w.attention_output_norm, stream);
  out.ffn.output_norm = upload(w.ffn_output_norm, stream);
  out.spec = w.spec;
  out.folded = w.folded;
  out.by_neuron = w.by_neuron;
  out.by_input = w.by_input.up.neurons() > 0;
  const std::vector<TreeNode>& nodes = plan.ffn_exchange().nodes[size_t(rank)];
  out.bin_offsets = bins(w.neuron_offsets);
  out.leaves = leaves(w.neuron_offsets, nodes, plan.reduction(), stream);
  const std::vector<int32_t> shards(w.neuron_offsets.begin(), w.neuron_offsets.end());
  out.shard_offsets = {std::span<const int32_t>(shards), stream};
  out.shards = {out.shard_offsets.data(), int(shards.size()) - 1, int(shards.back()), 0};
  for (int shard = 0; shard < out.shards.count; ++shard)
    out.shards.largest = std::max(out.shards.largest, shards[size_t(shard) + 1] - shards[size_t(shard)]);
  const Vector none, &attention_bias = w.attention.output_bias, &with = parallel_residual ? attention_bias : none;
  out.biases.attention = upload(attention_bias, stream);
  out.biases.dense = biases({&w.down_bias, &with}, stream);
  out.biases.folded = biases({&w.fold.fold_bias, &with}, stream);
  const auto either = [&](const PackedMatrix& matrix, const NeuronRows& rows) {
    return matrix.outputs() > 0 ? upload(matrix, stream) : upload(rows, stream);
  };
  out.ffn.gate = out.by_input ? upload(w.by_input.gate, stream) : either(w.dense.gate, w.fold.gate);
  out.ffn.up = out.by_input ? upload(w.by_input.up, stream) : either(w.dense.up, w.fold.up);
  out.ffn.down = w.by_neuron ? upload(w.fold.down, stream) : upload(w.dense.down, stream);
  out.ffn.gate_bias = upload(w.gate_bias, stream);
  out.ffn.up_bias = upload(w.up_bias, stream);
  if (w.folded) out.fold = upload(w.fold, stream);
  return out;
}

}  // namespace

DeviceWeightTaker::DeviceWeightTaker(const Blueprint& blueprint, const ShardPlan& plan, int rank)
    : blueprint_(blueprint), plan_(plan), rank_(rank), device_(cuda::device_info().ordinal) {
  weights_.layers.resize(size_t(blueprint.layers));
}

void DeviceWeightTaker::take(int layer, LayerWeights weights) {
  cuda::use_device(device_);  // which a thread does for itself
  weights_.layers[size_t(layer)] = upload(weights, blueprint_.parallel_residual, plan_, rank_, cuda::Stream());
}

void DeviceWeightTaker::take(OuterWeights weights) {
  cuda::use_device(device_);
  const cuda::Stream stream;
  weights_.head = upload(weights.head, stream);
  weights_.embedding_input = upload(weights.embedding_input, stream);
  weights_.embedding_output = upload(weights.embedding_output, stream);
  weights_.head_bias = upload(weights.head_bias, stream);
  weights_.token_embedding = upload(weights.token_embedding, stream);
  weights_.position_embedding = upload(weights.position_embedding, stream);
  weights_.embedding_norm = upload(weights.embedding_norm, stream);
  weights_.final_norm = upload(weights.final_norm, stream);
}

// Of the trees, and the zeros: what no layer has for itself.
void DeviceWeightTaker::add_leaves() {
  const cuda::Stream stream;
  const auto counted = [](int64_t count) {
    std::vector<int64_t> offsets;
    for (int64_t i = 0; i <= count; ++i) offsets.push_back(i);
    return offsets;
  };
  std::vector<int64_t> head_offsets;
  for (int64_t head = 0; head <= plan_.heads(rank_).size(); ++head) head_offsets.push_back(head * blueprint_.head_size);
  const std::vector<TreeNode>& attention = plan_.attention_exchange().nodes[size_t(rank_)];
  const std::vector<TreeNode>& ffn = plan_.ffn_exchange().nodes[size_t(rank_)];
  weights_.heads = leaves(head_offsets, attention, plan_.reduction(), stream);
  weights_.fold_inputs = leaves(plan_.fold_offsets(rank_), ffn, plan_.reduction(), stream);
  weights_.of_shards = leaves(counted(plan_.ffn_leaves(rank_).size()), ffn, plan_.reduction(), stream);
  weights_.of_leaves = leaves(counted(weights_.fold_inputs.view().count), ffn, plan_.reduction(), stream);
  int most = 0;
  for (const DeviceLayer& layer : weights_.layers) most = std::max(most, layer.shards.neurons);
  weights_.zeros = upload(Vector(size_t(most)), stream);
}

std::unique_ptr<StepExecutor> DeviceWeightTaker::build(Communicator& communicator, const EngineOptions& options) {
  add_leaves();
  return std::make_unique<DeviceStep>(blueprint_, std::move(weights_), plan_, communicator, options);
}

}  // namespace pleat
