// GPT-NeoX and Pythia: part of a head is rotated; attention and FFN, behind a norm each, are added together.
#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/part_table.h"
#include "core/model/families/positions.h"

namespace pleat {

Blueprint gpt_neox_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = common_sizes(config);
  blueprint.norm_epsilon = positive_epsilon(config, "layer_norm_eps", 1e-5);
  blueprint.positions = PositionKind::rotary;
  blueprint.rotaries = {read_rotary(
      config, blueprint, {config.number_or("rotary_emb_base", 10000), config.number_or("rotary_pct", 0.25)})};
  blueprint.activation = activation_from_name(config.text_or("hidden_act", "gelu"));
  blueprint.parallel_residual = config.flag_or("use_parallel_residual", true);
  blueprint.tied_head = config.flag_or("tie_word_embeddings", false);

  const bool bias = config.flag_or("attention_bias", true);
  PartTable parts(checkpoint, "gpt_neox.", "embed_in.weight");
  parts.add(Part::token_embedding, "embed_in", false);
  parts.add(Part::attention_norm, "layers.#.input_layernorm", true);
  parts.add_fused("layers.#.attention.query_key_value", bias, blueprint, PartTable::Fused::by_group);
  parts.add(Part::attention_output, "layers.#.attention.dense", bias);
  parts.add(Part::ffn_norm, "layers.#.post_attention_layernorm", true);
  parts.add(Part::ffn_up, "layers.#.mlp.dense_h_to_4h", true);
  parts.add(Part::ffn_down, "layers.#.mlp.dense_4h_to_h", true);
  parts.add(Part::final_norm, "final_layer_norm", true);
  parts.add_head("embed_out", blueprint.tied_head);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
