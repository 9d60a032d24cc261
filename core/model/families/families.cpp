#include "core/model/families/families.h"

#include <cmath>

#include "core/model/config.h"

namespace pleat {

int even_head_size(const Blueprint& blueprint) {
  PLEAT_REQUIRE(blueprint.hidden % blueprint.heads == 0, "config.json: the hidden size ", blueprint.hidden,
                " is not a multiple of the ", blueprint.heads, " heads");
  return int(blueprint.hidden / blueprint.heads);
}

float positive_epsilon(const Config& config, const char* key, double fallback) {
  const double epsilon = config.number_or(key, fallback);
  PLEAT_REQUIRE(epsilon > 0, "config.json: ", key, " is not positive");
  return float(epsilon);
}

Blueprint common_sizes(const Config& config, const char* neurons) {
  Blueprint blueprint;
  blueprint.hidden = config.integer("hidden_size", 1, kMostHidden);
  blueprint.layers = int(config.integer("num_hidden_layers", 1, kMostLayers));
  blueprint.heads = int(config.integer("num_attention_heads", 1, kMostHeads));
  blueprint.kv_heads = int(config.integer_or("num_key_value_heads", blueprint.heads, 1, blueprint.heads));
  PLEAT_REQUIRE(blueprint.heads % blueprint.kv_heads == 0, "config.json: num_attention_heads ", blueprint.heads,
                " is not a multiple of num_key_value_heads ", blueprint.kv_heads);
  blueprint.head_size =
      config.has("head_dim") ? int(config.integer("head_dim", 1, 1 << 16)) : even_head_size(blueprint);
  blueprint.attention_scale = 1.0f / std::sqrt(float(blueprint.head_size));
  blueprint.neurons = config.integer(neurons, 1, kMostNeurons);
  blueprint.max_positions = config.integer("max_position_embeddings", 1, kMostPositions);
  blueprint.vocab = config.integer("vocab_size", 1, kMostTokens);
  return blueprint;
}

}  // namespace pleat
