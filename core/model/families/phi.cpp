// Phi 1, 1.5 and 2: part of a head is rotated, attention and FFN behind one norm are added together, biases everywhere.
#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/part_table.h"
#include "core/model/families/positions.h"

namespace pleat {

Blueprint phi_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = common_sizes(config);
  blueprint.norm_epsilon = positive_epsilon(config, "layer_norm_eps", 1e-5);
  blueprint.positions = PositionKind::rotary;
  blueprint.rotaries = {read_rotary(config, blueprint, {10000, 0.5})};
  blueprint.activation = activation_from_name(config.text_or("hidden_act", "gelu_new"));
  blueprint.parallel_residual = true;
  blueprint.tied_head = config.flag_or("tie_word_embeddings", false);

  PartTable parts(checkpoint, "model.", "embed_tokens.weight");
  parts.add(Part::token_embedding, "embed_tokens", false);
  parts.add(Part::attention_norm, "layers.#.input_layernorm", true);
  parts.add(Part::query, "layers.#.self_attn.q_proj", true);
  parts.add(Part::key, "layers.#.self_attn.k_proj", true);
  parts.add(Part::value, "layers.#.self_attn.v_proj", true);
  if (config.flag_or("qk_layernorm", false)) {
    parts.add(Part::query_norm, "layers.#.self_attn.q_layernorm", true);
    parts.add(Part::key_norm, "layers.#.self_attn.k_layernorm", true);
  }
  parts.add(Part::attention_output, "layers.#.self_attn.dense", true);
  parts.add(Part::ffn_up, "layers.#.mlp.fc1", true);
  parts.add(Part::ffn_down, "layers.#.mlp.fc2", true);
  parts.add(Part::final_norm, "final_layernorm", true);
  parts.add_head("lm_head", blueprint.tied_head, true);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
