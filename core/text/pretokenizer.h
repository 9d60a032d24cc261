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
  virtual void split(std::string_view text, const Emit& emit) const = 0;
};

// From the "pre_tokenizer" of a tokenizer.json.
std::unique_ptr<PreTokenizer> make_pretokenizer(const nlohmann::json& description);

}  // namespace pleat
