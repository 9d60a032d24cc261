// GPT-2 (transformers' GPT2LMHeadModel): learned positions, LayerNorm before each sub-layer, fused query-key-value,
// matrices stored [in, out].
#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"

namespace pleat {
namespace {

WeightSource gpt2_source(const std::string& prefix, int64_t hidden, int64_t head_size, bool tied, Part part,
                         int layer) {
  const std::string block = concat(prefix, "h.", layer, ".");
  const auto linear = [&](const char* name, int64_t output_begin = 0) {
    return WeightSource{block + name + ".weight", block + name + ".bias", true, output_begin, head_size};
  };
  const auto norm = [](const std::string& name) { return WeightSource{name + ".weight", name + ".bias"}; };
  switch (part) {
    case Part::token_embedding:
      return {prefix + "wte.weight", ""};
    case Part::position_embedding:
      return {prefix + "wpe.weight", ""};
    case Part::final_norm:
      return norm(prefix + "ln_f");
    case Part::head:
      return {tied ? prefix + "wte.weight" : "lm_head.weight", ""};
    case Part::attention_norm:
      return norm(block + "ln_1");
    case Part::query:
      return linear("attn.c_attn");
    case Part::key:
      return linear("attn.c_attn", hidden);
    case Part::value:
      return linear("attn.c_attn", 2 * hidden);
    case Part::attention_output:
      return linear("attn.c_proj");
    case Part::ffn_norm:
      return norm(block + "ln_2");
    case Part::ffn_up:
      return linear("mlp.c_fc");
    case Part::ffn_down:
      return linear("mlp.c_proj");
    case Part::ffn_gate:
      break;  // not gated
  }
  throw Error(ErrorKind::failed, "gpt2 has no FFN gate");
}

}  // namespace

Blueprint gpt2_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint;
  blueprint.hidden = config.integer("n_embd", 1, 1 << 17);
  blueprint.layers = int(config.integer("n_layer", 1, 4096));
  blueprint.heads = int(config.integer("n_head", 1, 4096));
  blueprint.kv_heads = blueprint.heads;
  blueprint.max_positions = config.integer(config.has("n_positions") ? "n_positions" : "n_ctx", 1, 1 << 24);
  blueprint.vocab = config.integer("vocab_size", 1, 1 << 24);
  blueprint.neurons = config.integer_or("n_inner", 4 * blueprint.hidden, 1, 1 << 20);
  PLEAT_REQUIRE(blueprint.hidden % blueprint.heads == 0, "config.json: n_embd ", blueprint.hidden,
                " is not a multiple of n_head ", blueprint.heads);
  PLEAT_REQUIRE(
      !config.flag_or("scale_attn_by_inverse_layer_idx", false) && !config.flag_or("add_cross_attention", false),
      "config.json: scale_attn_by_inverse_layer_idx and add_cross_attention are not supported");
  blueprint.head_size = int(blueprint.hidden / blueprint.heads);
  blueprint.attention_scale =
      config.flag_or("scale_attn_weights", true) ? 1.0f / std::sqrt(float(blueprint.head_size)) : 1.0f;
  blueprint.norm_epsilon = float(config.number_or("layer_norm_epsilon", 1e-5));
  PLEAT_REQUIRE(blueprint.norm_epsilon > 0, "config.json: layer_norm_epsilon is not positive");
  blueprint.activation = activation_from_name(config.text_or("activation_function", "gelu_new"));
  blueprint.tied_head = config.flag_or("tie_word_embeddings", true);

  const std::string prefix = checkpoint.find("transformer.wte.weight") ? "transformer." : "";
  blueprint.source = [prefix, hidden = blueprint.hidden, head_size = blueprint.head_size, tied = blueprint.tied_head](
                         Part part, int layer) { return gpt2_source(prefix, hidden, head_size, tied, part, layer); };
  return blueprint;
}

}  // namespace pleat
