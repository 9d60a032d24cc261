#pragma once
// Pre-tokenizers that cut at the matches of a pattern.
#include "core/text/pattern.h"
#include "core/text/pretokenizer.h"

namespace pleat {

enum class SplitBehaviour : uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };

class Split : public PreTokenizer {
 public:
  // invert: what lies between the matches counts as the matches.
  Split(Pattern pattern, SplitBehaviour behaviour, bool invert);
  void split(std::string_view text, bool at_start, const Emit& emit) const override;

 private:
  Pattern pattern_;
  SplitBehaviour behaviour_;
  bool invert_;
};

// Split, Digits, Punctuation, Whitespace and WhitespaceSplit of a tokenizer.json; nullptr for other types.
std::unique_ptr<PreTokenizer> make_split(const nlohmann::json& description);

// SentencePiece's way: spaces become a visible character, with one put in front, and words begin at it.
class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(const nlohmann::json& description);
  void split(std::string_view text, bool at_start, const Emit& emit) const override;

 private:
  enum class Prepend : uint8_t { always, first, never };
  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

}  // namespace pleat
