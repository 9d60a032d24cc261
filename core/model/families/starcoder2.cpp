// StarCoder2: rotary positions, grouped keys and values, LayerNorm, plain FFN, perhaps a sliding window.
#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/part_table.h"
#include "core/model/families/positions.h"

namespace pleat {

Blueprint starcoder2_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = common_sizes(config);
  blueprint.norm_epsilon = positive_epsilon(config, "norm_epsilon", 1e-5);
  blueprint.positions = PositionKind::rotary;
  blueprint.rotaries = {read_rotary(config, blueprint, {})};
  read_windows(config, blueprint, [](int) { return true; });
  blueprint.activation = activation_from_name(config.text_or("hidden_act", "gelu_pytorch_tanh"));
  blueprint.tied_head = config.flag_or("tie_word_embeddings", true);

  const bool bias = config.flag_or("use_bias", true);
  PartTable parts(checkpoint, "model.", "embed_tokens.weight");
  parts.add(Part::token_embedding, "embed_tokens", false);
  parts.add(Part::attention_norm, "layers.#.input_layernorm", true);
  parts.add(Part::query, "layers.#.self_attn.q_proj", bias);
  parts.add(Part::key, "layers.#.self_attn.k_proj", bias);
  parts.add(Part::value, "layers.#.self_attn.v_proj", bias);
  parts.add(Part::attention_output, "layers.#.self_attn.o_proj", bias);
  parts.add(Part::ffn_norm, "layers.#.post_attention_layernorm", true);
  parts.add(Part::ffn_up, "layers.#.mlp.c_fc", bias);
  parts.add(Part::ffn_down, "layers.#.mlp.c_proj", bias);
  parts.add(Part::final_norm, "norm", true);
  parts.add_head("lm_head", blueprint.tied_head);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
