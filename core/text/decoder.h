#pragma once
// How tokens become text again.
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace pleat {

// The decoders of known models do the same to every token, except that some drop a space at the very beginning.
class Decoder {
 public:
  // From the "decoder" of a tokenizer.json: ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, or a Sequence of
  // them; null: entries are text.
  explicit Decoder(const nlohmann::json& description);

  std::string bytes_of(const std::string& entry) const;
  // An added token's: its own text, but for the visible spaces.
  std::string added_bytes_of(const std::string& content) const { return replaced(content); }
  int leading_spaces() const { return leading_spaces_; }  // at most so many are dropped from the beginning of a text

 private:
  void read(const nlohmann::json& description);
  std::string replaced(std::string text) const;
  bool byte_level_ = false, byte_fallback_ = false;
  std::vector<std::pair<std::string, std::string>> replacements_;
  int leading_spaces_ = 0;
};

}  // namespace pleat
