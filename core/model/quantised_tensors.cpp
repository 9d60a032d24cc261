#include "core/model/quantised_tensors.h"

#include <nlohmann/json.hpp>

#include "core/checkpoint/json_file.h"
#include "kernels/check.h"

namespace pleat {

constexpr int kQuantisedVersion = 1;

std::string to_metadata(const QuantisedTensors& tensors) {
  nlohmann::json names = nlohmann::json::object();
  for (const auto& [name, format] : tensors) names[name] = name_of(format);
  return nlohmann::json{{"version", kQuantisedVersion}, {"tensors", names}}.dump();
}

QuantisedTensors quantised_tensors_from_metadata(const std::string& text) {
  const nlohmann::json json = parse_json(text, "the checkpoint's 'quantised' metadata", kMetadataDepth);
  PLEAT_REQUIRE(json.is_object() && json.contains("version") && json.contains("tensors") && json["tensors"].is_object(),
                "the checkpoint's 'quantised' metadata is not an object with 'version' and 'tensors'");
  PLEAT_REQUIRE(json["version"] == kQuantisedVersion, "the checkpoint's quantisation has version ",
                json["version"].dump(), ", this program reads ", kQuantisedVersion);
  QuantisedTensors out;
  for (const auto& [name, format] : json["tensors"].items()) {
    PLEAT_REQUIRE(format.is_string(), "the checkpoint's 'quantised' metadata names no format for '", name, "'");
    out[name] = weight_format_named(format.get<std::string>());
    PLEAT_REQUIRE(is_low_bit(out[name]), "'", name, "' is not quantised as ", name_of(out[name]));
  }
  return out;
}

}  // namespace pleat
