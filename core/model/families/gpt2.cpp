// GPT-2 (transformers' GPT2LMHeadModel): learned positions, LayerNorm before each sub-layer, fused query-key-value,
// matrices stored [in, out].
#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/part_table.h"

namespace pleat {

Blueprint gpt2_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint;
  blueprint.hidden = config.integer("n_embd", 1, kMostHidden);
  blueprint.layers = int(config.integer("n_layer", 1, kMostLayers));
  blueprint.heads = blueprint.kv_heads = int(config.integer("n_head", 1, kMostHeads));
  blueprint.max_positions = config.integer(config.has("n_positions") ? "n_positions" : "n_ctx", 1, kMostPositions);
  blueprint.vocab = config.integer("vocab_size", 1, kMostTokens);
  blueprint.neurons = config.integer_or("n_inner", 4 * blueprint.hidden, 1, kMostNeurons);
  blueprint.head_size = even_head_size(blueprint);
  PLEAT_REQUIRE(
      !config.flag_or("scale_attn_by_inverse_layer_idx", false) && !config.flag_or("add_cross_attention", false),
      "config.json: scale_attn_by_inverse_layer_idx and add_cross_attention are not supported");
  blueprint.attention_scale =
      config.flag_or("scale_attn_weights", true) ? 1.0f / std::sqrt(float(blueprint.head_size)) : 1.0f;
  blueprint.norm_epsilon = positive_epsilon(config, "layer_norm_epsilon", 1e-5);
  blueprint.activation = activation_from_name(config.text_or("activation_function", "gelu_new"));
  blueprint.tied_head = config.flag_or("tie_word_embeddings", true);

  PartTable parts(checkpoint, "transformer.", "wte.weight");
  parts.add(Part::token_embedding, "wte", false);
  parts.add(Part::position_embedding, "wpe", false);
  parts.add(Part::attention_norm, "h.#.ln_1", true);
  parts.add_fused("h.#.attn.c_attn", true, blueprint, PartTable::Fused::in_a_row);
  parts.add(Part::attention_output, "h.#.attn.c_proj", true);
  parts.add(Part::ffn_norm, "h.#.ln_2", true);
  parts.add(Part::ffn_up, "h.#.mlp.c_fc", true);
  parts.add(Part::ffn_down, "h.#.mlp.c_proj", true);
  parts.add(Part::final_norm, "ln_f", true);
  parts.add_head("lm_head", blueprint.tied_head);
  const bool input_major = !config.flag_or("pleat_output_major", false);  // GGUF turns these matrices
  blueprint.source = [parts, input_major](Part part, int layer) {
    WeightSource source = parts(part, layer);
    source.input_major = input_major && source.weight.find(".c_") != std::string::npos;
    return source;
  };
  return blueprint;
}

}  // namespace pleat
