#include "core/engine/device/device_step.h"

#include <algorithm>
#include <bit>

#include "core/engine/device/device_state.h"
#include "kernels/attention.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/multiply_rows.h"
#include "parallel/device/make_device_sum.h"

namespace pleat {

using cuda::kMaxRows;

namespace {

void check_blueprint(const Blueprint& blueprint) {
  require_for_device(blueprint.norm_place == NormPlace::before, "norms behind the sub-layers");
  require_for_device(blueprint.embedding == blueprint.hidden, "embeddings of another width");
  require_for_device(blueprint.logit_soft_cap == 0, "soft caps of logits");
}

int power_of_two_from(int n) { return int(std::bit_ceil(unsigned(n))); }

int64_t largest_message(const ShardPlan& plan, int64_t d) { return plan.joint_exchange().most_nodes * kMaxRows * d; }

}  // namespace

DeviceStep::State::State(const Blueprint& blueprint_, const Weights& host, const ShardPlan& plan_,
                         Communicator& communicator_, int64_t kv_tokens)
    : blueprint((check_blueprint(blueprint_), blueprint_)),
      plan(plan_),
      communicator(communicator_),
      rank(communicator.rank()),
      weights(device_weights(host, blueprint, plan, rank, stream)),
      d(int(blueprint.hidden)),
      q_width(int(plan.heads(rank).size()) * blueprint.head_size),
      kv_width(int(plan.kv_heads(rank).size()) * blueprint.head_size),
      vocab(int(plan.vocab(rank).size())),
      attention_nodes(int(plan.attention_exchange().nodes[size_t(rank)].size())),
      joint_exchange(plan.joint_exchange()),
      embedding_exchange(communicator.ranks(), communicator.ranks()),
      sum(make_device_sum(communicator, plan.reduction(), largest_message(plan, d))),
      most_pages(int((blueprint.max_positions + kPageTokens - 1) / kPageTokens)),
      host_rows(size_t(kMaxRows * (2 + most_pages))),
      device_rows(host_rows.size()),
      by_hidden(d),
      by_neurons(int(std::max<size_t>(1, weights.zeros.size()))),
      by_heads(q_width),
      host_logits(size_t(kMaxRows) * size_t(vocab)),
      finder(kMaxRows, int(plan.vocab(rank).begin), vocab, 0),
      device_best(kMaxRows),
      logit_sums(kMaxRows),
      host_best(kMaxRows) {
  const Range heads = plan.heads(rank), kv_heads = plan.kv_heads(rank);
  for (int64_t head = heads.begin; head < heads.end; ++head)
    kv_of_head.push_back(int(head * blueprint.kv_heads / blueprint.heads - kv_heads.begin));
  for (const Rotary& rotary : blueprint.rotaries) {
    RotaryOnDevice& there = rotaries.emplace_back();
    there.frequency = {std::span<const float>(rotary.frequency), stream};
    there.rule = {there.frequency.data(), rotary.dims(), rotary.magnitude, rotary.interleaved};
  }
  if (!blueprint.alibi_slopes.empty())
    slopes = {std::span<const float>(blueprint.alibi_slopes).subspan(size_t(heads.begin), size_t(heads.size())),
              stream};

  KvCache cache;
  cache.dtype = host.head.format() == WeightFormat::f32 ? DType::f32 : DType::bf16;
  cache.kv_heads = int(kv_heads.size());
  cache.head_size = blueprint.head_size;
  cache.pages = (kv_tokens + kPageTokens - 1) / kPageTokens;
  const int64_t half = cache.pages * cache.kv_heads * cache.block_bytes();
  cache_memory = cuda::DeviceArray<std::byte>(size_t(2 * half * blueprint.layers));
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    cache.keys = cache_memory.data() + layer * 2 * half;
    cache.values = cache_memory.data() + (layer * 2 + 1) * half;
    caches.push_back(cache);
  }

  size_t most_bins = 0;
  for (const DeviceLayer& layer : weights.layers) {
    neurons = std::max(neurons, layer.bin_offsets.back());
    most_bins = std::max(most_bins, layer.bin_offsets.size() - 1);
    selections.emplace_back(layer.bin_offsets, stream);
  }
  const auto room = [](int64_t width) { return DeviceVector(size_t(kMaxRows * width)); };
  residual = room(d);
  normed = room(d);
  query_key_value = room(q_width + 2 * kv_width);
  attended = room(q_width);
  up = room(neurons);
  gate = room(neurons);
  nodes = room(int64_t(attention_nodes + int(plan.ffn_exchange().nodes[size_t(rank)].size())) * d);
  of_leaves = room(int64_t(weights.fold_inputs.view().count) * d);
  of_bins = room(int64_t(most_bins) * d);
  attention_work = DeviceVector(
      cuda::attention_work(kMaxRows, int(heads.size()), blueprint.head_size, int(blueprint.max_positions)));
  device_logits = room(vocab);
  std::vector<int32_t> own(kMaxRows);
  for (int row = 0; row < kMaxRows; ++row) own[size_t(row)] = row;
  table_of = {std::span<const int32_t>(own), stream};
}

void DeviceStep::State::upload_rows(const StepPlan& step_plan, int begin, int end) {
  int positions = 0;
  for (int i = begin; i < end; ++i) positions = std::max(positions, step_plan.rows[size_t(i)].position + 1);
  shape = {power_of_two_from(end - begin),
           std::min(most_pages, power_of_two_from((positions + kPageTokens - 1) / kPageTokens)),
           step_plan.rows[size_t(begin)].folded != 0};
  int32_t* table = &host_rows[size_t(2 * kMaxRows)];
  for (int i = 0; i < shape.rows; ++i, table += shape.table_pages) {
    const StepRow& row = step_plan.rows[size_t(std::min(begin + i, end - 1))];
    host_rows[size_t(i)] = row.token;
    host_rows[size_t(kMaxRows + i)] = row.position;
    const std::vector<int32_t>& pages = step_plan.page_tables[size_t(row.sequence)];
    const size_t used = std::min(pages.size(), size_t(shape.table_pages));
    std::copy_n(pages.begin(), used, table);
    std::fill(table + used, table + shape.table_pages, 0);
  }
  device_rows.copy_from(std::span(host_rows.data(), size_t(table - host_rows.data())), stream);
}

cuda::Norm DeviceStep::State::rule(const DeviceNorm& norm) const {
  return {norm.weight.data(), norm.bias.data(), blueprint.norm_epsilon, blueprint.norm == NormKind::layer_norm};
}

// The vocabulary is split: a token's rank contributes its row, rank 0 the position's.
void DeviceStep::State::embed() {
  const cuda::Rows table = (blueprint.tied_head ? weights.head : weights.token_embedding).view();
  require_for_device(table.bits > 8, "embeddings in low bits");
  cuda::PositionEmbedding learned;
  if (rank == 0) learned = {weights.position_embedding.view(), int(blueprint.position_offset)};
  const cuda::TokenEmbedding of_tokens{table, int(plan.vocab(rank).begin), blueprint.embedding_scale};
  const int32_t* const positions = device_rows.data() + kMaxRows;
  cuda::embed(handle(), shape.rows, d, device_rows.data(), of_tokens, positions, learned, residual.data());
  sum->all_reduce(handle(), "embedding", embedding_exchange, shape.rows, d, residual.data(), residual.data());
  if (weights.embedding_norm.weight.size() > 0)
    cuda::add_norm(handle(), shape.rows, d, {}, rule(weights.embedding_norm), residual.data(), residual.data());
}

void DeviceStep::State::normalise(const DeviceNorm& norm) {
  cuda::add_norm(handle(), shape.rows, d, {}, rule(norm), residual.data(), normed.data());
}

cuda::RowInput DeviceStep::State::input(const DeviceVector& x, int width, const cuda::Rows& w) {
  if (w.bits > 8) return cuda::RowInput::of_floats(x.data(), shape.rows, width);
  cuda::QuantisedRows& room = width == d ? by_hidden : width == q_width ? by_heads : by_neurons;
  return room.quantise(handle(), x.data(), shape.rows, w.protected_inputs, w.protected_input_count);
}

void DeviceStep::State::attend(int index) {
  if (q_width == 0) return;
  const DeviceAttention& a = weights.layers[size_t(index)].attention;
  const int width = q_width + 2 * kv_width;
  const cuda::Rows w = a.query_key_value.view(), output = a.output.view();
  const int32_t* const rows = device_rows.data();
  const cuda::PagedRows paged{shape.rows, rows + kMaxRows, table_of.data(), rows + 2 * kMaxRows, shape.table_pages};
  cuda::multiply_rows(handle(), input(normed, d, w),
                      {{w, a.query_key_value_bias.data(), query_key_value.data(), width}});
  const auto columns = [&](int begin, int count) {
    return MatrixView<float>(query_key_value.data() + begin, shape.rows, count, width);
  };
  const MatrixView<float> q = columns(0, q_width);
  const int kind = blueprint.attention[size_t(index)].rotary;
  const bool rotates = blueprint.positions == PositionKind::rotary && kind >= 0;
  cuda::append_kv(handle(), rotates ? rotaries[size_t(kind)].rule : cuda::DeviceRotary{}, q, columns(q_width, kv_width),
                  columns(q_width + kv_width, kv_width), paged, caches[size_t(index)]);
  AttentionScores scores;
  scores.scale = blueprint.attention_scale;
  scores.soft_cap = blueprint.attention_soft_cap;
  scores.window = blueprint.attention[size_t(index)].window;
  if (blueprint.positions == PositionKind::alibi) {
    scores.slopes = slopes.data();
    scores.slope_scale = blueprint.alibi_scale;
    scores.bias_in_bf16 = blueprint.alibi_in_bf16;
  }
  cuda::attention(handle(), q, paged, caches[size_t(index)], kv_of_head, scores,
                  std::min(shape.table_pages * kPageTokens, int(blueprint.max_positions)), attention_work.data(),
                  {attended.data(), shape.rows, q_width});
  cuda::multiply_rows(handle(), input(attended, q_width, output),
                      {{output, nullptr, nodes.data(), d, weights.heads.view()}});
}

void DeviceStep::State::add_attention(const DeviceLayer& layer) {
  sum->all_reduce_add_norm(handle(), "attention", plan.attention_exchange(), shape.rows, d, nodes.data(),
                           layer.biases.attention.data(), rule(layer.ffn_norm), residual.data(), normed.data());
}

void DeviceStep::State::add_ffn(const DeviceLayer& layer, const DeviceNorm& next, bool folded) {
  sum->all_reduce_add_norm(handle(), "ffn", plan.ffn_exchange(), shape.rows, d, ffn_nodes(),
                           (folded ? layer.biases.folded : layer.biases.dense).data(), rule(next), residual.data(),
                           normed.data());
}

// Attention's and the FFN's outputs in one all-reduce.
void DeviceStep::State::add_both(const DeviceLayer& layer, const DeviceNorm& next, bool folded) {
  sum->all_reduce_add_norm(handle(), "attention and ffn", joint_exchange, shape.rows, d, nodes.data(),
                           (folded ? layer.biases.folded : layer.biases.dense).data(), rule(next), residual.data(),
                           normed.data());
}

int64_t DeviceStep::State::bytes_of_pass(bool folded) const {
  int64_t bytes = weights.head.bytes();
  for (size_t index = 0; index < weights.layers.size(); ++index) {
    const DeviceLayer& layer = weights.layers[index];
    bytes += layer.attention.query_key_value.bytes() + layer.attention.output.bytes();
    bytes += folded && layer.folded ? folded_bytes(layer, selections[index]) : layer.ffn.bytes();
  }
  return bytes;
}

void DeviceStep::State::layers(int64_t step) {
  embed();
  normalise(weights.layers[0].attention_norm);
  for (int index = 0; index < blueprint.layers; ++index) {
    const DeviceLayer& layer = weights.layers[size_t(index)];
    const DeviceNorm& next =
        index + 1 < blueprint.layers ? weights.layers[size_t(index) + 1].attention_norm : weights.final_norm;
    const bool folded = shape.folded && layer.folded;
    communicator.at(step, index);
    attend(index);
    if (!blueprint.parallel_residual) {
      add_attention(layer);
      ffn(layer, folded);
      add_ffn(layer, next, folded);
    } else {
      if (layer.ffn_norm.weight.size() > 0) normalise(layer.ffn_norm);
      ffn(layer, folded);
      add_both(layer, next, folded);
    }
  }
  communicator.at(step, -1);
}

void DeviceStep::State::run_layers(int64_t step) {
  if (!sum->in_stream_order()) return layers(step);
  const auto [known, is_new] = graphs.try_emplace(shape);
  if (is_new) return layers(step);
  if (!known->second) known->second = std::make_unique<cuda::Graph>(stream, [&] { layers(step); });
  known->second->launch(stream);
}

void DeviceStep::State::pass(const StepPlan& step_plan, int begin, int end) {
  upload_rows(step_plan, begin, end);
  run_layers(step_plan.step);
  const auto rows = std::span(step_plan.rows).subspan(size_t(begin), size_t(end - begin));
  const bool wanted = std::ranges::any_of(rows, [](const StepRow& row) { return row.wants_logits != 0; });
  if (wanted && step_plan.logits == LogitsMode::full) return read_logits(rows);
  if (wanted && step_plan.logits == LogitsMode::argmax) return read_best(rows);
  sum->wait(stream);
}

void DeviceStep::State::head() {
  const cuda::Rows w = weights.head.view();
  const float* const bias = weights.head_bias.size() > 0 ? weights.head_bias.data() : nullptr;
  cuda::multiply_rows(handle(), input(normed, d, w), {{w, bias, device_logits.data(), vocab}});
}

void DeviceStep::State::read_logits(std::span<const StepRow> rows) {
  head();
  cuda::copy_to_host(host_logits.data(), device_logits.data(), rows.size() * size_t(vocab) * sizeof(float), handle());
  sum->wait(stream);
  for (size_t i = 0; i < rows.size(); ++i) {
    const float* const row = &host_logits[i * size_t(vocab)];
    if (rows[i].wants_logits) logits.insert(logits.end(), row, row + vocab);
  }
}

void DeviceStep::State::read_best(std::span<const StepRow> rows) {
  head();
  finder.find(handle(), int(rows.size()), 1, device_logits.data(), device_best.data(), logit_sums.data());
  cuda::copy_to_host(host_best.data(), device_best.data(), rows.size() * sizeof(cuda::Candidate), handle());
  sum->wait(stream);
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].wants_logits) best.push_back({host_best[i].value, host_best[i].token});
}

DeviceStep::DeviceStep(const Blueprint& blueprint, const Weights& weights, const ShardPlan& plan,
                       Communicator& communicator, int64_t kv_tokens)
    : state_(std::make_unique<State>(blueprint, weights, plan, communicator, kv_tokens)) {}
DeviceStep::~DeviceStep() = default;

void DeviceStep::step(const StepPlan& plan) {
  state_->logits.clear();
  state_->best.clear();
  state_->passes[0] = state_->passes[1] = 0;
  const auto& rows = plan.rows;
  for (size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    while (end < rows.size() && end - begin < size_t(kMaxRows) && rows[end].folded == rows[begin].folded) ++end;
    ++state_->passes[rows[begin].folded != 0];
    state_->pass(plan, int(begin), int(end));
  }
}

MatrixView<const float> DeviceStep::logits() const {
  return {state_->logits.data(), int64_t(state_->logits.size()) / state_->vocab, state_->vocab};
}

std::span<const TokenCandidate> DeviceStep::best() const { return state_->best; }

int64_t DeviceStep::weight_bytes() const {
  return state_->passes[0] * state_->bytes_of_pass(false) + state_->passes[1] * state_->bytes_of_pass(true);
}

}  // namespace pleat
