// Gemma 1, 2 and 3: Llama's shape with GeGLU, norms stored as weight - 1 and scaled embeddings. Gemma 2 adds norms
// after the sub-layers, soft caps and a window in every other layer; Gemma 3 norms of queries and keys and two rotary
// bases.
#include <cmath>

#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/llama.h"
#include "core/model/families/positions.h"

namespace pleat {
namespace {

Blueprint gemma(const Config& config) {
  Blueprint blueprint = llama_like(config);
  blueprint.norm_weight_plus_one = true;
  blueprint.embedding_scale = float(std::sqrt(double(blueprint.hidden)));
  blueprint.tied_head = config.flag_or("tie_word_embeddings", true);
  PLEAT_REQUIRE(!config.flag_or("use_bidirectional_attention", false),
                "config.json: use_bidirectional_attention is not supported");
  return blueprint;
}

LlamaBiases biases(const Config& config) {
  const bool attention = config.flag_or("attention_bias", false);
  return {attention, attention, false};
}

// The score's own scale, soft caps, and windows but in the last of each `period` layers: Gemma 2 and 3.
void read_second_generation(const Config& config, Blueprint& blueprint, int64_t period) {
  blueprint.activation = activation_from_name(config.text_or("hidden_activation", "gelu_pytorch_tanh"));
  const double scalar = config.number_or("query_pre_attn_scalar", 256);
  PLEAT_REQUIRE(scalar > 0, "config.json: query_pre_attn_scalar is not positive");
  blueprint.attention_scale = float(1 / std::sqrt(scalar));
  blueprint.attention_soft_cap = float(config.number_or("attn_logit_softcapping", 0));
  blueprint.logit_soft_cap = float(config.number_or("final_logit_softcapping", 0));
  period = config.integer_or("sliding_window_pattern", period, 1, kMostLayers);
  read_windows(config, blueprint, [period](int layer) { return (layer + 1) % period != 0; });
}

PartTable second_generation_parts(const Checkpoint& checkpoint, const Config& config, const Blueprint& blueprint) {
  PartTable parts = llama_parts(checkpoint, blueprint, biases(config));
  parts.add(Part::attention_output_norm, "layers.#.post_attention_layernorm", false);
  parts.add(Part::ffn_norm, "layers.#.pre_feedforward_layernorm", false);
  parts.add(Part::ffn_output_norm, "layers.#.post_feedforward_layernorm", false);
  return parts;
}

// What Hugging Face's configurations take for granted where a file leaves it out; null says that there is none.
nlohmann::json with_defaults(nlohmann::json defaults, const Config& config) {
  defaults.update(config.json());
  return defaults;
}

}  // namespace

// Old files say hidden_act "gelu" where the models were trained with the tanh form, which hidden_activation names.
Blueprint gemma_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = gemma(config);
  std::string activation = config.text_or("hidden_activation", config.text_or("hidden_act", "gelu_pytorch_tanh"));
  if (activation == "gelu") activation = "gelu_pytorch_tanh";
  blueprint.activation = activation_from_name(activation);
  blueprint.source = llama_parts(checkpoint, blueprint, biases(config));
  return blueprint;
}

Blueprint gemma2_blueprint(const Checkpoint& checkpoint, const Config& given) {
  const nlohmann::json filled =
      with_defaults({{"attn_logit_softcapping", 50}, {"final_logit_softcapping", 30}, {"sliding_window", 4096}}, given);
  const Config config(filled);
  Blueprint blueprint = gemma(config);
  read_second_generation(config, blueprint, 2);
  blueprint.source = second_generation_parts(checkpoint, config, blueprint);
  return blueprint;
}

Blueprint gemma3_blueprint(const Checkpoint& checkpoint, const Config& whole) {
  const nlohmann::json filled = with_defaults({{"num_attention_heads", 8},
                                               {"num_key_value_heads", 4},
                                               {"head_dim", 256},
                                               {"max_position_embeddings", 131072},
                                               {"vocab_size", 262208},
                                               {"sliding_window", 4096}},
                                              whole.has("text_config") ? whole.object("text_config") : whole);
  const Config config(filled);
  // Without one no layer would be told from those with the other rotation.
  PLEAT_REQUIRE(config.has("sliding_window"), "config.json: sliding_window is null, which Gemma 3 cannot have");
  Blueprint blueprint = gemma(config);
  read_second_generation(config, blueprint, 6);
  // Full attention first, then sliding: older files have rope_theta with rope_scaling, and rope_local_base_freq.
  const RotaryDefaults local{config.number_or("rope_local_base_freq", 10000), 1};
  const bool nested = config.has("rope_parameters") && config.object("rope_parameters").has("full_attention");
  if (nested) {
    const Config both = config.object("rope_parameters");
    blueprint.rotaries = {rotary_of(both.object("full_attention"), blueprint, {1e6, 1}),
                          rotary_of(both.object("sliding_attention"), blueprint, local)};
  } else {
    const nlohmann::json nothing = nlohmann::json::object();
    blueprint.rotaries = {read_rotary(config, blueprint, {1e6, 1}), rotary_of(Config(nothing), blueprint, local)};
  }
  for (LayerAttention& layer : blueprint.attention) layer.rotary = layer.window > 0 ? 1 : 0;
  PartTable parts = second_generation_parts(checkpoint, config, blueprint);
  parts.add(Part::query_norm, "layers.#.self_attn.q_norm", false);
  parts.add(Part::key_norm, "layers.#.self_attn.k_norm", false);
  blueprint.source = parts;
  return blueprint;
}

}  // namespace pleat
