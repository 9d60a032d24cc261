// What the engine's steps need besides weights, all of it taken at start: work space and the key-value cache.
#include <algorithm>

#include "core/engine/engine_state.h"
#include "kernels/check.h"
#include "parallel/host_memory.h"

namespace pleat {

// The rows of a plan, and what comes of them.
void Engine::State::make_room_for_results() {
  const size_t max_rows = size_t(options.max_rows), max_logit_rows = size_t(options.max_logit_rows);
  local_logits.resize(max_logit_rows * size_t(plan.vocab(rank).size()));
  local_best.resize(max_logit_rows);
  gathered_best.resize(rank == 0 ? max_logit_rows * size_t(communicator.ranks()) : 0);
  gather_bytes.resize(size_t(communicator.ranks()));
  if (rank == 0 && communicator.ranks() > 1) {
    all_logits.resize(max_logit_rows * size_t(blueprint.vocab));
    gathered_logits.resize(all_logits.size());
  }
  ordered.reserve(max_rows);
  attention_rows.reserve(max_rows);
  logit_rows.reserve(max_rows);
  best.reserve(std::max(max_rows, max_logit_rows));
}

// Of steps that this CPU runs.
void Engine::State::make_work_space() {
  const Range heads = plan.heads(rank), kv_heads = plan.kv_heads(rank);
  for (int64_t head = heads.begin; head < heads.end; ++head)
    kv_of_head.push_back(int(head * blueprint.kv_heads / blueprint.heads - kv_heads.begin));

  const size_t max_rows = size_t(options.max_rows);
  for (auto* values : {&x, &normed, &sum}) values->resize(max_rows * size_t(std::max(d, blueprint.embedding)));
  query_key_value.resize(max_rows * size_t(q_width + 2 * kv_width));
  attended.resize(max_rows * size_t(q_width));
  hidden.resize(max_rows * size_t(neurons));
  bool has_held = false, keeps_z = blueprint.gated, has_prompts = false, keeps_products = false;
  for (const LayerWeights& layer : weights.layers) {
    has_held |= layer.folded && !gathers(layer.spec.selection);
    keeps_z |= layer.folded && layer.spec.selection == SelectionKind::threshold;
    keeps_products |= layer.folded && layer.spec.cuts_inputs && layer.spec.selection == SelectionKind::threshold;
    has_prompts |= layer.folded && by_prompt(layer.spec.selection);
  }
  if (keeps_z) gate.resize(hidden.size());
  if (keeps_products && blueprint.gated) products.resize(size_t(kMaxSharedRows * neurons));
  for (const Rotary& rotary : blueprint.rotaries) {
    RotaryAngles& of_rows = angles.emplace_back();
    of_rows.cosine.resize(max_rows * rotary.frequency.size());
    of_rows.sine.resize(of_rows.cosine.size());
  }
  const size_t leaf_sums = ffn_leaves.size() * size_t(kMaxSharedRows * d);
  if (folds) leaves = Buffer(leaf_sums * sizeof(float));
  if (has_prompts) {
    prompt_selection = std::make_unique<PromptSelection>(weights.layers, options.max_sequences);
    prompt_values.resize(hidden.size());
    prompt_norms.resize(max_rows);
    prompt_squares.resize((ffn_leaves.size() + ffn_nodes.size()) * max_rows);
  }
  if (has_held) held_leaves.resize(leaf_sums);
  if (rank == 0 && options.recall_every > 0 && folds)
    exact_selection = std::make_unique<Selection>(plan.neuron_offsets(rank));
}

int64_t Engine::State::wanted_pages() const {
  const int64_t context_pages = (blueprint.max_positions + kPageTokens - 1) / kPageTokens;
  return options.kv_tokens > 0 ? (options.kv_tokens + kPageTokens - 1) / kPageTokens : 16 * context_pages;
}

// As many pages as were asked for or fit in half of the free memory, the same number on every rank.
void Engine::State::allocate_cache() {
  KvCache cache;
  cache.dtype = options.kv_dtype.value_or(DType::bf16);
  cache.kv_heads = int(plan.kv_heads(rank).size());
  cache.head_size = blueprint.head_size;
  const int64_t half_bytes = cache.kv_heads * cache.block_bytes();  // of a page's keys, or values, in one layer
  pages = wanted_pages();
  const int64_t page_bytes = std::max<int64_t>(1, 2 * half_bytes * blueprint.layers);
  const int64_t available = host_memory().available;
  if (available > 0) pages = std::min(pages, available / 2 / communicator.on_host().ranks / page_bytes);
  pages = communicator.agree_min("cache size", pages);
  PLEAT_REQUIRE(pages > 0, "no memory is left for a single page of the key-value cache");

  // A page's layers side by side: memory is taken as tokens come, not by all layers at once.
  cache.pages = pages;
  cache.gap = page_bytes - half_bytes;
  cache_memory = Buffer(size_t(pages * page_bytes));
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    cache.keys = cache_memory.as<std::byte>() + layer * 2 * half_bytes;
    cache.values = static_cast<std::byte*>(cache.keys) + half_bytes;
    caches.push_back(cache);
  }
  key_channels.share(caches);
}

void Engine::State::run_on(ExecutorBuilder& builder) {
  if (rank == 0) gathered_candidates.resize(gathered_best.size());
  EngineOptions there = options;
  there.kv_tokens = wanted_pages() * kPageTokens;
  executor = builder.build(communicator, there);
  pages = executor->kv_pages();
}

}  // namespace pleat
