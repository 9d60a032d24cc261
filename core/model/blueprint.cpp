#include "core/model/blueprint.h"

#include <map>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/families/families.h"

namespace pleat {

Blueprint read_blueprint(const Checkpoint& checkpoint) {
  static const std::map<std::string, Blueprint (*)(const Checkpoint&, const Config&)> families = {
      {"gpt2", gpt2_blueprint},
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
  blueprint.family = family;
  if (checkpoint.metadata().contains("fold"))
    blueprint.fold = fold_spec_from_metadata(checkpoint.metadata()["fold"].get<std::string>());
  return blueprint;
}

}  // namespace pleat
