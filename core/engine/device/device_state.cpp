#include "core/engine/device/device_state.h"

#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/prefill_attention.h"
#include "parallel/device/make_device_sum.h"

namespace pleat {

using cuda::kMaxRows;

namespace {

// Of a pass. Selection static keeps every leaf's sums of its rows.
int prompt_rows(const DeviceWeights& weights) {
  const auto keeps_leaves = [](const DeviceLayer& layer) { return layer.spec.selection == SelectionKind::hot; };
  return std::ranges::any_of(weights.layers, keeps_leaves) ? kPromptRows / 8 : kPromptRows;
}

}  // namespace

DeviceStep::State::State(const Blueprint& blueprint_, DeviceWeights weights_, const ShardPlan& plan_,
                         Communicator& communicator_, const EngineOptions& options)
    : blueprint(blueprint_),
      plan(plan_),
      communicator(communicator_),
      rank(communicator.rank()),
      weights(std::move(weights_)),
      d(int(blueprint.hidden)),
      e(int(blueprint.embedding)),
      q_width(int(plan.heads(rank).size()) * blueprint.head_size),
      kv_width(int(plan.kv_heads(rank).size()) * blueprint.head_size),
      vocab(int(plan.vocab(rank).size())),
      attention_nodes(int(plan.attention_exchange().nodes[size_t(rank)].size())),
      joint_exchange(plan.joint_exchange()),
      embedding_exchange(communicator.ranks(), communicator.ranks()),
      upload{std::max(kMaxRows, std::min(options.max_rows, prompt_rows(weights)))},
      measures_phases(options.phases),
      most_pages(int((std::min<int64_t>(blueprint.max_positions, options.kv_tokens) + kPageTokens - 1) / kPageTokens)),
      host_rows(upload.at(RowsUpload::page_tables) + size_t(upload.capacity * most_pages)),
      device_rows(host_rows.size()),
      many_rows(upload.capacity, std::max({d, e, q_width, int(weights.zeros.size())})),
      host_logits(size_t(kMaxRows) * size_t(vocab)),
      finder(kMaxRows, int(plan.vocab(rank).begin), vocab, 0),  // logits are capped before
      device_best(size_t(kMaxRows) * kCandidates),
      logit_sums(kMaxRows),
      host_best(device_best.size()),
      host_sums(logit_sums.size()) {
  const int most_nodes = (blueprint.parallel_residual ? joint_exchange : plan.ffn_exchange()).most_nodes;
  sum = make_device_sum(communicator, plan.reduction(), most_nodes,
                        joint_exchange.most_nodes * int64_t(upload.capacity) * std::max(d, e), options.device_sums);
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
  make_work_space(options.max_sequences);
  load_library();
  make_cache(options);
  stream.wait();
  communicator.barrier("memory");  // a rank that allocates may wait for kernels of the device, which wait for it
}

// As many pages as are asked for or fit, all else being there: graphs, and what a driver needs with time, have the last
// tenth of the free memory.
void DeviceStep::State::make_cache(const EngineOptions& options) {
  KvCache cache;
  cache.dtype = options.kv_dtype.value_or(DType::bf16);
  cache.kv_heads = int(plan.kv_heads(rank).size());
  cache.head_size = blueprint.head_size;
  const int64_t page_bytes = std::max<int64_t>(1, 2 * cache.kv_heads * cache.block_bytes() * blueprint.layers);
  const auto fitting = [&](int64_t wanted) {
    return std::min(wanted, cuda::device_info().memory_free / 10 * 9 / page_bytes);
  };
  const int64_t most =
      communicator.agree_min("cache size", fitting((options.kv_tokens + kPageTokens - 1) / kPageTokens));
  key_channels.emplace(KeyChannelSizes{blueprint.layers, blueprint.heads, blueprint.kv_heads, blueprint.head_size,
                                       options.max_sequences, options.max_rows, options.key_channels},
                       plan, rank, most);
  kv_pages = communicator.agree_min("cache size", fitting(most));
  PLEAT_REQUIRE(kv_pages > 0, "no memory is left on a device for a single page of the key-value cache");
  cache.pages = kv_pages;
  const int64_t half = (cache.pages * cache.kv_heads * cache.block_bytes() + 15) / 16 * 16;
  cache_memory = cuda::DeviceArray<std::byte>(size_t(2 * half * blueprint.layers));
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    cache.keys = cache_memory.data() + layer * 2 * half;
    cache.values = cache_memory.data() + (layer * 2 + 1) * half;
    caches.push_back(cache);
  }
}

// For the matrices that a prompt's products take in another form.
void DeviceStep::State::make_matrix_room() {
  int64_t turned_bytes = 0, widened_bytes = 0;
  const auto take = [&](const cuda::DeviceRows& matrix, bool turned) {
    const cuda::Rows w = matrix.view();
    int64_t& bytes = turned ? turned_bytes : widened_bytes;
    bytes = std::max(bytes, turned ? cuda::TransposedRows::bytes_of(w) : cuda::WidenedPlanes::bytes_of(w));
  };
  for (const DeviceLayer& layer : weights.layers) {
    take(layer.attention.query_key_value, false);
    take(layer.attention.output, false);
    take(layer.ffn.down, layer.by_neuron);
    if (layer.by_input && runs_folded(layer, true)) continue;  // prompts' inputs are cut too
    take(layer.ffn.gate, layer.by_input);
    take(layer.ffn.up, layer.by_input);
  }
  by_output = cuda::TransposedRows(turned_bytes);
  widened = cuda::WidenedPlanes(widened_bytes);
}

void DeviceStep::State::make_work_space(int slots) {
  size_t cut_floats = 0;
  int most_shards = 0;
  int pending = weights.heads.view().pending;
  bool keeps_leaves = false, by_prompts = false;
  for (const DeviceLayer& layer : weights.layers) {
    neurons = std::max(neurons, layer.bin_offsets.back());
    most_shards = std::max(most_shards, layer.shards.count);
    pending = std::max(pending, layer.leaves.view().pending);
    selections.emplace_back(layer.bin_offsets, stream);
    input_selections.emplace_back(cuda::input_bins(layer.by_input ? d : 0), stream);
    if (layer.by_input)
      cut_floats =
          std::max(cut_floats, cuda::selected_work(kMaxRows, d, layer.shards.neurons, blueprint.gated ? 2 : 1));
    keeps_leaves |= layer.folded && layer.spec.selection == SelectionKind::hot;
    const bool by_prompt_here = layer.folded && by_prompt(layer.spec.selection);
    by_prompts |= by_prompt_here;
    const size_t remembered = by_prompt_here ? size_t(slots) * size_t(layer.bin_offsets.back()) : 0;
    prompt_scores.emplace_back(remembered);
    cuda::zero(prompt_chosen.emplace_back(remembered).data(), remembered, handle());
  }
  make_matrix_room();
  for (const int width : {d, e, q_width}) quantisers.try_emplace(width, width);
  for (const DeviceLayer& layer : weights.layers) quantisers.try_emplace(layer.shards.neurons, layer.shards.neurons);
  const auto room = [](int64_t rows, int64_t width) { return DeviceVector(size_t(rows * width)); };
  const int64_t rows = upload.capacity, ffn_nodes = int64_t(plan.ffn_exchange().nodes[size_t(rank)].size());
  const int64_t fold_leaves = weights.fold_inputs.view().count;
  residual = room(rows, d);
  normed = room(rows, d);
  query_key_value = room(rows, q_width + 2 * kv_width);
  attended = room(rows, q_width);
  up = room(rows, neurons);
  gate = room(rows, neurons);
  nodes = room(rows, (attention_nodes + ffn_nodes) * d);
  gemm_work = room(rows, int64_t(pending) * d);
  of_leaves = room(keeps_leaves ? rows : kMaxRows, fold_leaves * d);
  residuals = room(kMaxRows, neurons);
  cut_work = DeviceVector(cut_floats);
  of_shards = room(kMaxRows, int64_t(most_shards) * d);
  if (keeps_leaves) of_held = room(rows, fold_leaves * d);
  if (by_prompts) {
    prompt_values = room(rows, neurons);
    squares = room(rows, std::max<int64_t>(1, plan.ffn_leaves(rank).size()));
    square_nodes = room(rows, std::max<int64_t>(1, ffn_nodes));
    squared_norms = room(rows, 1);
  }
  const int heads = int(kv_of_head.size()), head_size = blueprint.head_size;
  attention_work = DeviceVector(std::max(cuda::attention_work(kMaxRows, heads, head_size, most_pages * kPageTokens),
                                         cuda::prefill_attention_work(int(rows), heads, head_size)));
  if (e != d) of_embeddings = room(rows, e), head_input = room(kMaxRows, e);
  device_logits = room(kMaxRows, vocab);
}

}  // namespace pleat
