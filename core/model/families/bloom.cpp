// BLOOM and BLOOMZ: ALiBi, a LayerNorm of the embedding, query, key and value of a head side by side.
#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/part_table.h"
#include "core/model/families/positions.h"

namespace pleat {

Blueprint bloom_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint;
  blueprint.hidden = config.integer(config.has("n_embed") ? "n_embed" : "hidden_size", 1, kMostHidden);
  blueprint.layers =
      int(config.integer(config.has("num_hidden_layers") ? "num_hidden_layers" : "n_layer", 1, kMostLayers));
  blueprint.heads = blueprint.kv_heads =
      int(config.integer(config.has("num_attention_heads") ? "num_attention_heads" : "n_head", 1, kMostHeads));
  blueprint.head_size = even_head_size(blueprint);
  blueprint.attention_scale = 1.0f / std::sqrt(float(blueprint.head_size));
  blueprint.neurons = 4 * blueprint.hidden;
  blueprint.max_positions = config.integer_or("seq_length", 2048, 1, kMostPositions);
  blueprint.vocab = config.integer("vocab_size", 1, kMostTokens);
  blueprint.norm_epsilon = positive_epsilon(config, "layer_norm_epsilon", 1e-5);
  blueprint.positions = PositionKind::alibi;
  blueprint.alibi_slopes = alibi_slopes(blueprint.heads);
  blueprint.activation = Activation::gelu_new;
  blueprint.tied_head = config.flag_or("tie_word_embeddings", true);
  PLEAT_REQUIRE(!config.flag_or("apply_residual_connection_post_layernorm", false),
                "config.json: apply_residual_connection_post_layernorm is not supported");

  PartTable parts(checkpoint, "transformer.", "word_embeddings.weight");
  parts.add(Part::token_embedding, "word_embeddings", false);
  parts.add(Part::embedding_norm, "word_embeddings_layernorm", true);
  parts.add(Part::attention_norm, "h.#.input_layernorm", true);
  parts.add_fused("h.#.self_attention.query_key_value", true, blueprint, PartTable::Fused::by_group);
  parts.add(Part::attention_output, "h.#.self_attention.dense", true);
  parts.add(Part::ffn_norm, "h.#.post_attention_layernorm", true);
  parts.add(Part::ffn_up, "h.#.mlp.dense_h_to_4h", true);
  parts.add(Part::ffn_down, "h.#.mlp.dense_4h_to_h", true);
  parts.add(Part::final_norm, "ln_f", true);
  parts.add_head("lm_head", blueprint.tied_head);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
