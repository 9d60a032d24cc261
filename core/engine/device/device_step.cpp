#include "core/engine/device/device_step.h"

#include <algorithm>

#include "core/engine/device/device_state.h"
#include "kernels/attention.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/multiply_rows.h"

namespace pleat {

using cuda::kMaxRows;

namespace {

void check_blueprint(const Blueprint& blueprint) {
  require_for_device(blueprint.norm_place == NormPlace::before, "norms behind the sub-layers");
  require_for_device(blueprint.embedding == blueprint.hidden, "embeddings of another width");
  require_for_device(blueprint.logit_soft_cap == 0, "soft caps of logits");
}

}  // namespace

DeviceStep::State::State(const Blueprint& blueprint_, const Weights& host, int64_t kv_tokens)
    : blueprint((check_blueprint(blueprint_), blueprint_)),
      weights(device_weights(host, blueprint.tied_head, stream)),
      d(int(blueprint.hidden)),
      q_width(blueprint.heads * blueprint.head_size),
      kv_width(blueprint.kv_heads * blueprint.head_size),
      vocab(int(blueprint.vocab)),
      by_hidden(d),
      by_neurons(int(std::max<size_t>(1, weights.zeros.size()))),
      by_heads(q_width) {
  for (int head = 0; head < blueprint.heads; ++head)
    kv_of_head.push_back(int(int64_t(head) * blueprint.kv_heads / blueprint.heads));
  for (const Rotary& rotary : blueprint.rotaries) {
    RotaryOnDevice& there = rotaries.emplace_back();
    there.frequency = {std::span<const float>(rotary.frequency), stream};
    there.rule = {there.frequency.data(), rotary.dims(), rotary.magnitude, rotary.interleaved};
  }
  slopes = {std::span<const float>(blueprint.alibi_slopes), stream};

  KvCache cache;
  cache.dtype = host.head.format() == WeightFormat::f32 ? DType::f32 : DType::bf16;
  cache.kv_heads = blueprint.kv_heads;
  cache.head_size = blueprint.head_size;
  cache.pages = (kv_tokens + kPageTokens - 1) / kPageTokens;
  const int64_t half = cache.pages * cache.kv_heads * cache.block_bytes();
  cache_memory = cuda::DeviceArray<std::byte>(size_t(2 * half * blueprint.layers));
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    cache.keys = cache_memory.data() + layer * 2 * half;
    cache.values = cache_memory.data() + (layer * 2 + 1) * half;
    caches.push_back(cache);
  }

  size_t most_parts = 0;
  for (const DeviceLayer& layer : weights.layers) {
    neurons = std::max(neurons, layer.bin_offsets.back());
    most_parts = std::max(most_parts, layer.bin_offsets.size() - 1);
    selections.emplace_back(layer.bin_offsets, stream);
  }
  const auto room = [](int width) { return DeviceVector(size_t(kMaxRows) * size_t(width)); };
  for (DeviceVector* values : {&residual, &normed, &attention_out, &ffn_out}) *values = room(d);
  query_key_value = room(q_width + 2 * kv_width);
  attended = room(q_width);
  up = room(neurons);
  gate = room(neurons);
  parts = DeviceVector(most_parts * size_t(kMaxRows * d));
  attention_work =
      DeviceVector(cuda::attention_work(kMaxRows, blueprint.heads, blueprint.head_size, int(blueprint.max_positions)));
  device_logits = room(vocab);
  host_logits.resize(size_t(kMaxRows) * size_t(vocab));

  const auto most_pages = size_t((blueprint.max_positions + kPageTokens - 1) / kPageTokens);
  tokens = cuda::DeviceArray<int32_t>(kMaxRows);
  positions = cuda::DeviceArray<int32_t>(kMaxRows);
  tables = cuda::DeviceArray<int32_t>(size_t(kMaxRows) * most_pages);
  std::vector<int32_t> own(kMaxRows);
  for (int row = 0; row < kMaxRows; ++row) own[size_t(row)] = row;
  table_of = {std::span<const int32_t>(own), stream};
  paged.positions = positions.data();
  paged.page_table_of = table_of.data();
  paged.page_tables = tables.data();
}

void DeviceStep::State::upload_rows(const StepPlan& plan, int begin, int end) {
  rows = paged.count = end - begin;
  host_tokens.clear();
  host_positions.clear();
  positions_end = 0;
  for (int i = begin; i < end; ++i) positions_end = std::max(positions_end, plan.rows[size_t(i)].position + 1);
  paged.table_pages = (positions_end + kPageTokens - 1) / kPageTokens;
  host_tables.assign(size_t(rows) * size_t(paged.table_pages), 0);
  for (int i = begin; i < end; ++i) {
    const StepRow& row = plan.rows[size_t(i)];
    host_tokens.push_back(row.token);
    host_positions.push_back(row.position);
    const std::vector<int32_t>& table = plan.page_tables[size_t(row.sequence)];
    std::copy_n(table.begin(), std::min(table.size(), size_t(paged.table_pages)),
                host_tables.begin() + int64_t(i - begin) * paged.table_pages);
  }
  tokens.copy_from(host_tokens, stream);
  positions.copy_from(host_positions, stream);
  tables.copy_from(host_tables, stream);
}

void DeviceStep::State::embed() {
  const cuda::Rows table = (blueprint.tied_head ? weights.head : weights.token_embedding).view();
  require_for_device(table.bits > 8, "embeddings in low bits");
  const cuda::PositionEmbedding learned{weights.position_embedding.view(), int(blueprint.position_offset)};
  const cuda::TokenEmbedding of_tokens{table, 0, blueprint.embedding_scale};
  cuda::embed(handle(), rows, d, tokens.data(), of_tokens, positions.data(), learned, residual.data());
  if (weights.embedding_norm.weight.size() == 0) return;
  const cuda::Norm norm{weights.embedding_norm.weight.data(), weights.embedding_norm.bias.data(),
                        blueprint.norm_epsilon, blueprint.norm == NormKind::layer_norm};
  cuda::add_norm(handle(), rows, d, nullptr, norm, residual.data(), residual.data());
}

void DeviceStep::State::add_norm(const float* x, const DeviceNorm& norm) {
  const cuda::Norm rule{norm.weight.data(), norm.bias.data(), blueprint.norm_epsilon,
                        blueprint.norm == NormKind::layer_norm};
  cuda::add_norm(handle(), rows, d, x, rule, residual.data(), normed.data());
}

cuda::RowInput DeviceStep::State::input(const DeviceVector& x, int width, const cuda::Rows& w) {
  if (w.bits > 8) return {x.data(), rows, width};
  cuda::QuantisedRows& room = width == d ? by_hidden : width == q_width ? by_heads : by_neurons;
  return room.quantise(handle(), x.data(), rows, w.protected_inputs, w.protected_input_count);
}

void DeviceStep::State::attend(int index) {
  const DeviceAttention& a = weights.layers[size_t(index)].attention;
  const int width = q_width + 2 * kv_width;
  const cuda::Rows w = a.query_key_value.view(), output = a.output.view();
  cuda::multiply_rows(handle(), input(normed, d, w),
                      {{w, a.query_key_value_bias.data(), query_key_value.data(), width}});
  const auto columns = [&](int begin, int count) {
    return MatrixView<float>(query_key_value.data() + begin, rows, count, width);
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
  cuda::attention(handle(), q, paged, caches[size_t(index)], kv_of_head, scores, positions_end, attention_work.data(),
                  {attended.data(), rows, q_width});
  cuda::multiply_rows(handle(), input(attended, q_width, output),
                      {{output, a.output_bias.data(), attention_out.data(), d}});
}

void DeviceStep::State::pass(const StepPlan& plan, int begin, int end) {
  const bool folded = plan.rows[size_t(begin)].folded != 0;
  upload_rows(plan, begin, end);
  embed();
  const float* left = nullptr;  // what the sub-layer before leaves to be added
  for (int index = 0; index < blueprint.layers; ++index) {
    const DeviceLayer& layer = weights.layers[size_t(index)];
    add_norm(left, layer.attention_norm);
    attend(index);
    if (!blueprint.parallel_residual) {
      add_norm(attention_out.data(), layer.ffn_norm);
      ffn(layer, folded);
    } else {
      if (layer.ffn_norm.weight.size() > 0) add_norm(nullptr, layer.ffn_norm);
      ffn(layer, folded);
      cuda::add_parts(handle(), attention_out.data(), 1, rows * d, ffn_out.data());
    }
    left = ffn_out.data();
  }
  add_norm(left, weights.final_norm);
  if (plan.logits != LogitsMode::none) read_logits(plan, begin, end);
  stream.wait();
}

void DeviceStep::State::read_logits(const StepPlan& plan, int begin, int end) {
  const auto wanted = [&](int i) { return plan.rows[size_t(i)].wants_logits != 0; };
  bool any = false;
  for (int i = begin; i < end; ++i) any |= wanted(i);
  if (!any) return;
  const cuda::Rows head = weights.head.view();
  const float* const bias = weights.head_bias.size() > 0 ? weights.head_bias.data() : nullptr;
  cuda::multiply_rows(handle(), input(normed, d, head), {{head, bias, device_logits.data(), vocab}});
  cuda::copy_to_host(host_logits.data(), device_logits.data(), size_t(rows) * size_t(vocab) * sizeof(float), handle());
  stream.wait();
  for (int i = begin; i < end; ++i)
    if (wanted(i)) {
      const float* const row = &host_logits[size_t(i - begin) * size_t(vocab)];
      logits.insert(logits.end(), row, row + vocab);
    }
}

DeviceStep::DeviceStep(const Blueprint& blueprint, const Weights& weights, int64_t kv_tokens)
    : state_(std::make_unique<State>(blueprint, weights, kv_tokens)) {}
DeviceStep::~DeviceStep() = default;

void DeviceStep::step(const StepPlan& plan) {
  state_->logits.clear();
  const auto& rows = plan.rows;
  for (size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    while (end < rows.size() && end - begin < size_t(kMaxRows) && rows[end].folded == rows[begin].folded) ++end;
    state_->pass(plan, int(begin), int(end));
  }
}

MatrixView<const float> DeviceStep::logits() const {
  return {state_->logits.data(), int64_t(state_->logits.size()) / state_->vocab, state_->vocab};
}

}  // namespace pleat
