// GPT-J: neighbouring values are rotated in pairs; attention and FFN behind one norm, added together.
#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/part_table.h"
#include "core/model/families/positions.h"

namespace pleat {

Blueprint gptj_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint;
  blueprint.hidden = config.integer("n_embd", 1, kMostHidden);
  blueprint.layers = int(config.integer("n_layer", 1, kMostLayers));
  blueprint.heads = blueprint.kv_heads = int(config.integer("n_head", 1, kMostHeads));
  blueprint.head_size = even_head_size(blueprint);
  blueprint.attention_scale = 1.0f / std::sqrt(float(blueprint.head_size));
  blueprint.neurons = config.integer_or("n_inner", 4 * blueprint.hidden, 1, kMostNeurons);
  blueprint.max_positions = config.integer("n_positions", 1, kMostPositions);
  blueprint.vocab = config.integer("vocab_size", 1, kMostTokens);
  blueprint.norm_epsilon = positive_epsilon(config, "layer_norm_epsilon", 1e-5);
  blueprint.positions = PositionKind::rotary;
  const int64_t dims = config.integer_or("rotary_dim", blueprint.head_size, 2, blueprint.head_size);
  blueprint.rotaries = {read_rotary(config, blueprint, {10000, double(dims) / blueprint.head_size})};
  blueprint.rotaries[0].interleaved = true;
  blueprint.activation = activation_from_name(config.text_or("activation_function", "gelu_new"));
  blueprint.parallel_residual = true;
  blueprint.tied_head = config.flag_or("tie_word_embeddings", false);

  PartTable parts(checkpoint, "transformer.", "wte.weight");
  parts.add(Part::token_embedding, "wte", false);
  parts.add(Part::attention_norm, "h.#.ln_1", true);
  parts.add(Part::query, "h.#.attn.q_proj", false);
  parts.add(Part::key, "h.#.attn.k_proj", false);
  parts.add(Part::value, "h.#.attn.v_proj", false);
  parts.add(Part::attention_output, "h.#.attn.out_proj", false);
  parts.add(Part::ffn_up, "h.#.mlp.fc_in", true);
  parts.add(Part::ffn_down, "h.#.mlp.fc_out", true);
  parts.add(Part::final_norm, "ln_f", true);
  parts.add_head("lm_head", blueprint.tied_head, true);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
