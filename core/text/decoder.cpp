#include "core/text/decoder.h"

#include "core/text/byte_level.h"
#include "core/text/description.h"
#include "core/text/token_model.h"
#include "kernels/check.h"

namespace pleat {

Decoder::Decoder(const nlohmann::json& description) {
  if (!description.is_null()) read(description);
}

void Decoder::read(const nlohmann::json& description) {
  PLEAT_REQUIRE(description.is_object() && description.contains("type"), "tokenizer.json has a decoder without type");
  const auto& type = description["type"];
  if (type == "Sequence") {
    PLEAT_REQUIRE(description.contains("decoders") && description["decoders"].is_array(),
                  "tokenizer.json: a Sequence decoder has no decoders");
    for (const nlohmann::json& part : description["decoders"]) read(part);
  } else if (type == "ByteLevel") {
    byte_level_ = true;
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
  } else if (type == "Replace") {
    const auto pattern = description.find("pattern");
    const bool literal = pattern != description.end() && pattern->is_object() && pattern->contains("String") &&
                         (*pattern)["String"].is_string() && (*pattern)["String"] != "";
    if (!literal)
      throw Error(ErrorKind::unimplemented, "tokenizer.json: the Replace decoder has a pattern that is no String");
    replacements_.emplace_back((*pattern)["String"].get<std::string>(), json_text(description, "content"));
  } else if (type == "Strip") {
    const bool known = description.value("content", "") == " " && description.value("stop", -1) == 0 &&
                       description.contains("start") && is_token_id(description["start"]);
    if (!known) throw Error(ErrorKind::unimplemented, "tokenizer.json: the Strip decoder is not one of leading spaces");
    leading_spaces_ += description["start"].get<int>();
  } else if (type == "Metaspace") {
    replacements_.emplace_back(json_text(description, "replacement"), " ");
    PLEAT_REQUIRE(!replacements_.back().first.empty(), "tokenizer.json: the Metaspace decoder replaces nothing");
    const bool none =
        description.value("prepend_scheme", "always") == "never" || !json_flag(description, "add_prefix_space", true);
    if (!none) leading_spaces_ += 1;
  } else if (type != "Fuse") {
    throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown decoder ", type.dump()));
  }
}

std::string Decoder::bytes_of(const std::string& entry) const {
  if (byte_level_) return from_byte_level(entry).value_or(entry);
  if (byte_fallback_)
    if (const int byte = byte_of_entry(entry); byte >= 0) return std::string(1, char(byte));
  return replaced(entry);
}

std::string Decoder::replaced(std::string text) const {
  for (const auto& [from, to] : replacements_)
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  return text;
}

}  // namespace pleat
