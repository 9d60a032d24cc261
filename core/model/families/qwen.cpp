// Qwen2, Qwen2.5 (biases of query, key and value) and Qwen3 (an RMSNorm of every query and key head instead).
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/llama.h"
#include "core/model/families/positions.h"

namespace pleat {
namespace {

Blueprint qwen(const Config& config) {
  Blueprint blueprint = llama_like(config);
  if (config.flag_or("use_sliding_window", false)) {
    const int64_t first = config.integer_or("max_window_layers", 28, 0, kMostLayers);
    read_windows(config, blueprint, [first](int layer) { return layer >= first; });
  }
  return blueprint;
}

}  // namespace

Blueprint qwen2_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = qwen(config);
  blueprint.source = llama_parts(checkpoint, blueprint, {.query_key_value = true});
  return blueprint;
}

Blueprint qwen3_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = qwen(config);
  const bool bias = config.flag_or("attention_bias", false);
  PartTable parts = llama_parts(checkpoint, blueprint, {bias, bias, false});
  parts.add(Part::query_norm, "layers.#.self_attn.q_norm", false);
  parts.add(Part::key_norm, "layers.#.self_attn.k_norm", false);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
