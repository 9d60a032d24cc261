#pragma once
// Cuts text into the words inside which tokens are merged.
#include <functional>
#include <memory>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pleat {

class PreTokenizer {
 public:
  using Emit = std::function<void(std::string_view word)>;

  virtual ~PreTokenizer() = default;
  // Emits the words in order; together they are the text (and what the pre-tokenizer puts in front of it). text may
  // hold ill-formed UTF-8; a word is valid during the call only.
  // at_start: text stands at the beginning of what is tokenized.
  virtual void split(std::string_view text, bool at_start, const Emit& emit) const = 0;
};

// From the "pre_tokenizer" of a tokenizer.json; null: the text is one word, and nullptr.
std::unique_ptr<PreTokenizer> make_pretokenizer(const nlohmann::json& description);
// Whether its words are bytes that the vocabulary writes in the byte-level alphabet.
bool is_byte_level(const nlohmann::json& description);

}  // namespace pleat
