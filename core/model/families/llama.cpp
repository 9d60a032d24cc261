// Llama 1 to 3 and models of its shape (SmolLM2): RMSNorm, rotary positions, grouped keys and values, SwiGLU. Mistral,
// Qwen and Gemma are variants of it.
#include "core/model/families/llama.h"

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/positions.h"

namespace pleat {

PartTable llama_parts(const Checkpoint& checkpoint, const Blueprint& blueprint, const LlamaBiases& biases) {
  const bool bare = !checkpoint.find("model.embed_tokens.weight") && checkpoint.find("embed_tokens.weight");
  // Of a model that also sees: older files, and newer ones.
  const bool inside = checkpoint.find("language_model.model.embed_tokens.weight");
  const bool newer = checkpoint.find("model.language_model.embed_tokens.weight");
  const char* const prefix = inside ? "language_model.model." : newer ? "model.language_model." : bare ? "" : "model.";
  PartTable parts(checkpoint, prefix, "embed_tokens.weight");
  parts.add(Part::token_embedding, "embed_tokens", false);
  parts.add(Part::attention_norm, "layers.#.input_layernorm", false);
  parts.add(Part::query, "layers.#.self_attn.q_proj", biases.query_key_value);
  parts.add(Part::key, "layers.#.self_attn.k_proj", biases.query_key_value);
  parts.add(Part::value, "layers.#.self_attn.v_proj", biases.query_key_value);
  parts.add(Part::attention_output, "layers.#.self_attn.o_proj", biases.attention_output);
  parts.add(Part::ffn_norm, "layers.#.post_attention_layernorm", false);
  parts.add(Part::ffn_gate, "layers.#.mlp.gate_proj", biases.ffn);
  parts.add(Part::ffn_up, "layers.#.mlp.up_proj", biases.ffn);
  parts.add(Part::ffn_down, "layers.#.mlp.down_proj", biases.ffn);
  parts.add(Part::final_norm, "norm", false);
  parts.add_head(inside ? "language_model.lm_head" : "lm_head", blueprint.tied_head);
  return parts;
}

Blueprint llama_like(const Config& config) {
  Blueprint blueprint = common_sizes(config);
  blueprint.norm = NormKind::rms_norm;
  blueprint.norm_epsilon = positive_epsilon(config, "rms_norm_eps", 1e-6);
  blueprint.positions = PositionKind::rotary;
  blueprint.rotaries = {read_rotary(config, blueprint, {})};
  blueprint.activation = activation_from_name(config.text_or("hidden_act", "silu"));
  blueprint.gated = true;
  blueprint.tied_head = config.flag_or("tie_word_embeddings", false);
  return blueprint;
}

Blueprint llama_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = llama_like(config);
  const bool attention_bias = config.flag_or("attention_bias", false);
  blueprint.source =
      llama_parts(checkpoint, blueprint, {attention_bias, attention_bias, config.flag_or("mlp_bias", false)});
  return blueprint;
}

}  // namespace pleat
