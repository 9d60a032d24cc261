#pragma once
// The byte-level alphabet of GPT-2: every byte is written as one printable character, so that vocabularies are text.
#include <optional>
#include <string>
#include <string_view>

#include "core/text/pattern.h"
#include "core/text/pretokenizer.h"

namespace pleat {

// The character that stands for a byte: the byte's own Latin-1 character if printable, else one from U+0100 on.
char32_t byte_level_character(uint8_t byte);
// The bytes a vocabulary entry stands for; nullopt if one of its characters is outside the alphabet.
std::optional<std::string> from_byte_level(std::string_view entry);
std::string to_byte_level(std::string_view bytes);

class ByteLevelSplit : public PreTokenizer {
 public:
  explicit ByteLevelSplit(const nlohmann::json& description);
  void split(std::string_view text, bool at_start, const Emit& emit) const override;

 private:
  bool add_prefix_space_;
  std::optional<Pattern> words_;
};

}  // namespace pleat
