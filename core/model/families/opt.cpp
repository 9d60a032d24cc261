// OPT: learned positions from row 2 on, ReLU, LayerNorm before the sub-layers or (350m) after them, and there an
// embedding narrower than the hidden size.
#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/part_table.h"

namespace pleat {

Blueprint opt_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = common_sizes(config, "ffn_dim");
  blueprint.embedding = config.integer_or("word_embed_proj_dim", blueprint.hidden, 1, kMostHidden);
  blueprint.position_offset = 2;
  PLEAT_REQUIRE(config.flag_or("layer_norm_elementwise_affine", true),
                "config.json: layer_norm_elementwise_affine false is not supported");
  const bool norm_first = config.flag_or("do_layer_norm_before", true);
  blueprint.norm_place = norm_first ? NormPlace::before : NormPlace::after;
  blueprint.activation = activation_from_name(config.text_or("activation_function", "relu"));
  blueprint.tied_head = config.flag_or("tie_word_embeddings", true);

  const bool bias = config.flag_or("enable_bias", true);
  const bool headless = checkpoint.find("decoder.embed_tokens.weight");  // saved without its head
  PartTable parts(checkpoint, headless ? "decoder." : "model.decoder.", "embed_tokens.weight");
  parts.add(Part::token_embedding, "embed_tokens", false);
  parts.add(Part::position_embedding, "embed_positions", false);
  if (blueprint.embedding != blueprint.hidden) {
    parts.add(Part::embedding_input, "project_in", false);
    parts.add(Part::embedding_output, "project_out", false);
  }
  parts.add(Part::attention_norm, "layers.#.self_attn_layer_norm", true);
  parts.add(Part::query, "layers.#.self_attn.q_proj", bias);
  parts.add(Part::key, "layers.#.self_attn.k_proj", bias);
  parts.add(Part::value, "layers.#.self_attn.v_proj", bias);
  parts.add(Part::attention_output, "layers.#.self_attn.out_proj", bias);
  parts.add(Part::ffn_norm, "layers.#.final_layer_norm", true);
  parts.add(Part::ffn_up, "layers.#.fc1", bias);
  parts.add(Part::ffn_down, "layers.#.fc2", bias);
  if (norm_first && !config.flag_or("_remove_final_layer_norm", false))
    parts.add(Part::final_norm, "final_layer_norm", true);
  parts.add_head("lm_head", blueprint.tied_head);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
