// Mistral: Llama with a sliding window in every layer where the configuration sets one.
#include "core/model/config.h"
#include "core/model/families/families.h"
#include "core/model/families/llama.h"
#include "core/model/families/positions.h"

namespace pleat {

Blueprint mistral_blueprint(const Checkpoint& checkpoint, const Config& config) {
  Blueprint blueprint = llama_like(config);
  read_windows(config, blueprint, [](int) { return true; });
  blueprint.source = llama_parts(checkpoint, blueprint, {});
  return blueprint;
}

}  // namespace pleat
