#pragma once
// Tokens that stand for themselves wherever their text occurs, recognised before the text is cut into words.
#include <bitset>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/text/regex.h"

namespace pleat {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;  // only where no word character stands beside it
  bool lstrip = false;       // takes the white space in front of it
  bool rstrip = false;       // takes the white space behind it
  bool normalized = true;    // looked for after normalization, so only in what the others leave
  bool special = false;
};

// From the "added_tokens" of a tokenizer.json.
std::vector<AddedToken> read_added_tokens(const nlohmann::json& description);

// Finds a set of added tokens: the leftmost, of those the longest.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);
  // Calls, in order, text(piece) for what lies between the tokens (never empty) and token(id) for each of them.
  void split(std::string_view input, const std::function<void(std::string_view)>& text,
             const std::function<void(int32_t)>& token) const;

 private:
  std::optional<size_t> match_at(std::string_view rest) const;  // index of the token
  bool has_word_beside(std::string_view input, size_t begin, size_t end) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<uint64_t, uint32_t> children_;  // of a trie: node * 256 + byte -> node
  std::vector<int32_t> token_at_;                    // by node; -1: none ends here
  std::bitset<256> first_bytes_;
  Regex word_character_;
};

}  // namespace pleat
