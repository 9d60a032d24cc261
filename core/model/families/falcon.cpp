// Falcon: 7B (one key-value head, attention and FFN behind one norm, added together), 40B and 180B (grouped keys and
// values, a norm for each), RW (ALiBi or rotary, full heads, one sub-layer after the other).
#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/part_table.h"
#include "core/model/families/positions.h"

namespace pleat {
namespace {

void read_positions(const Config& config, Blueprint& blueprint) {
  if (!config.flag_or("alibi", false)) {
    blueprint.positions = PositionKind::rotary;
    blueprint.rotaries = {read_rotary(config, blueprint, {})};
    return;
  }
  blueprint.positions = PositionKind::alibi;
  blueprint.alibi_slopes = alibi_slopes(blueprint.heads);
  for (float& slope : blueprint.alibi_slopes) slope = to_f32(to_bf16(slope));
  blueprint.alibi_in_bf16 = true;
  blueprint.alibi_scale = blueprint.attention_scale;
}

}  // namespace

Blueprint falcon_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint;
  const bool grouped = config.flag_or("new_decoder_architecture", false);
  blueprint.hidden = config.integer("hidden_size", 1, kMostHidden);
  blueprint.layers = int(config.integer("num_hidden_layers", 1, kMostLayers));
  blueprint.heads = int(config.integer("num_attention_heads", 1, kMostHeads));
  blueprint.kv_heads = blueprint.heads;
  if (grouped)
    blueprint.kv_heads = int(config.integer_or("num_kv_heads", blueprint.heads, 1, blueprint.heads));
  else if (config.flag_or("multi_query", true))
    blueprint.kv_heads = 1;
  PLEAT_REQUIRE(blueprint.heads % blueprint.kv_heads == 0, "config.json: num_attention_heads ", blueprint.heads,
                " is not a multiple of num_kv_heads ", blueprint.kv_heads);
  blueprint.head_size = even_head_size(blueprint);
  blueprint.attention_scale = 1.0f / std::sqrt(float(blueprint.head_size));
  blueprint.neurons = config.integer_or("ffn_hidden_size", 4 * blueprint.hidden, 1, kMostNeurons);
  blueprint.max_positions = config.integer_or("max_position_embeddings", 2048, 1, kMostPositions);
  blueprint.vocab = config.integer("vocab_size", 1, kMostTokens);
  blueprint.norm_epsilon = positive_epsilon(config, "layer_norm_epsilon", 1e-5);
  blueprint.activation = activation_from_name(config.text_or("activation", "gelu"));
  blueprint.parallel_residual = config.flag_or("parallel_attn", true);
  blueprint.tied_head = config.flag_or("tie_word_embeddings", true);
  PLEAT_REQUIRE(!grouped || blueprint.parallel_residual,
                "config.json: new_decoder_architecture without parallel_attn is not supported");
  read_positions(config, blueprint);

  const bool bias = config.flag_or("bias", false);
  const bool two_norms =
      blueprint.parallel_residual && config.integer_or("num_ln_in_parallel_attn", grouped ? 2 : 1, 1, 2) == 2;
  PartTable parts(checkpoint, "transformer.", "word_embeddings.weight");
  parts.add(Part::token_embedding, "word_embeddings", false);
  parts.add(Part::attention_norm, two_norms ? "h.#.ln_attn" : "h.#.input_layernorm", true);
  parts.add_fused("h.#.self_attention.query_key_value", bias, blueprint, PartTable::Fused::by_group);
  parts.add(Part::attention_output, "h.#.self_attention.dense", bias);
  if (two_norms) parts.add(Part::ffn_norm, "h.#.ln_mlp", true);
  if (!blueprint.parallel_residual) parts.add(Part::ffn_norm, "h.#.post_attention_layernorm", true);
  parts.add(Part::ffn_up, "h.#.mlp.dense_h_to_4h", bias);
  parts.add(Part::ffn_down, "h.#.mlp.dense_4h_to_h", bias);
  parts.add(Part::final_norm, "ln_f", true);
  parts.add_head("lm_head", blueprint.tied_head);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
