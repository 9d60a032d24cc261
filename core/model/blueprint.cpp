#include "core/model/blueprint.h"

#include <map>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"

namespace pleat {

Blueprint read_blueprint(const Checkpoint& checkpoint) {
  static const std::map<std::string, Blueprint (*)(const Checkpoint&, const Config&)> families = {
      {"bloom", bloom_blueprint},     {"falcon", falcon_blueprint},
      {"gemma", gemma_blueprint},     {"gemma2", gemma2_blueprint},
      {"gemma3", gemma3_blueprint},   {"gemma3_text", gemma3_blueprint},
      {"gpt2", gpt2_blueprint},       {"gpt_neox", gpt_neox_blueprint},
      {"gptj", gptj_blueprint},       {"llama", llama_blueprint},
      {"mistral", mistral_blueprint}, {"opt", opt_blueprint},
      {"phi", phi_blueprint},         {"qwen2", qwen2_blueprint},
      {"qwen3", qwen3_blueprint},     {"starcoder2", starcoder2_blueprint},
  };
  const Config config(checkpoint.config());
  const std::string family = config.text_or("model_type", "");
  const auto it = families.find(family);
  if (it == families.end()) {
    std::string known;
    for (const auto& [name, _] : families) known += (known.empty() ? "" : ", ") + name;
    PLEAT_REQUIRE(false, "config.json: unknown model_type '", family, "', known: ", known);
  }
  Blueprint blueprint = it->second(checkpoint, config);
  if (blueprint.embedding == 0) blueprint.embedding = blueprint.hidden;
  if (blueprint.attention.empty()) blueprint.attention.resize(size_t(blueprint.layers));
  blueprint.family = family;
  if (checkpoint.metadata().contains("fold"))
    blueprint.fold = fold_spec_from_metadata(checkpoint.metadata()["fold"].get<std::string>());
  return blueprint;
}

}  // namespace pleat
