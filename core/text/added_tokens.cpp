#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/text/description.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat {
namespace {

size_t leading_white_space(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Step step = utf8_step(text.substr(length));
    if (step.kind != Utf8Step::valid || !is_white_space(step.codepoint)) break;
    length += step.length;
  }
  return length;
}

// The last character, empty if the text does not end with a well-formed one.
std::string_view last_character(std::string_view text) {
  for (size_t length = 1; length <= std::min<size_t>(4, text.size()); ++length) {
    const std::string_view tail = text.substr(text.size() - length);
    const Utf8Step step = utf8_step(tail);
    if (step.kind == Utf8Step::valid && step.length == length) return tail;
  }
  return {};
}

size_t trailing_white_space(std::string_view text) {
  size_t length = 0;
  while (true) {
    const std::string_view last = last_character(text.substr(0, text.size() - length));
    if (last.empty() || !is_white_space(utf8_step(last).codepoint)) return length;
    length += last.size();
  }
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const nlohmann::json& description) {
  std::vector<AddedToken> tokens;
  if (description.is_null()) return tokens;
  PLEAT_REQUIRE(description.is_array(), "tokenizer.json: added_tokens is not a list");
  for (const auto& item : description) {
    const bool valid = item.is_object() && item.contains("content") && item["content"].is_string() &&
                       item.contains("id") && is_token_id(item["id"]);
    PLEAT_REQUIRE(valid, "tokenizer.json: added token ", tokens.size(), " has no content or no valid id");
    const bool special = json_flag(item, "special", false);
    tokens.push_back({.id = item["id"].get<int32_t>(),
                      .content = item["content"].get<std::string>(),
                      .single_word = json_flag(item, "single_word", false),
                      .lstrip = json_flag(item, "lstrip", false),
                      .rstrip = json_flag(item, "rstrip", false),
                      .normalized = json_flag(item, "normalized", !special),
                      .special = special});
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens)
    : tokens_(tokens), token_at_{-1}, word_character_(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])") {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    if (content.empty()) continue;
    uint32_t node = 0;
    for (const char c : content) {
      const auto [child, created] = children_.try_emplace(uint64_t(node) << 8 | uint8_t(c), uint32_t(token_at_.size()));
      if (created) token_at_.push_back(-1);
      node = child->second;
    }
    if (token_at_[node] < 0) token_at_[node] = int32_t(i);
    first_bytes_.set(uint8_t(content[0]));
  }
}

std::optional<size_t> AddedTokenFinder::match_at(std::string_view rest) const {
  std::optional<size_t> longest;
  uint32_t node = 0;
  for (const char c : rest) {
    const auto child = children_.find(uint64_t(node) << 8 | uint8_t(c));
    if (child == children_.end()) break;
    node = child->second;
    if (token_at_[node] >= 0) longest = size_t(token_at_[node]);
  }
  return longest;
}

bool AddedTokenFinder::has_word_beside(std::string_view input, size_t begin, size_t end) const {
  Regex::Searcher searcher(word_character_);
  const std::string_view before = last_character(input.substr(0, begin));
  if (!before.empty() && searcher.find(before, 0)) return true;
  const std::string_view rest = input.substr(end);
  if (rest.empty()) return false;
  const Utf8Step step = utf8_step(rest);
  return step.kind == Utf8Step::valid && searcher.find(rest.substr(0, step.length), 0).has_value();
}

void AddedTokenFinder::split(std::string_view input, const std::function<void(std::string_view)>& text,
                             const std::function<void(int32_t)>& token) const {
  size_t done = 0;
  size_t at = 0;
  while (at < input.size()) {
    if (!first_bytes_[uint8_t(input[at])]) {
      ++at;
      continue;
    }
    const auto match = match_at(input.substr(at));
    if (!match) {
      ++at;
      continue;
    }
    const AddedToken& found = tokens_[*match];
    size_t begin = at;
    size_t end = at + found.content.size();
    at = end;
    if (found.single_word && has_word_beside(input, begin, end)) continue;
    if (found.lstrip) begin -= trailing_white_space(input.substr(done, begin - done));
    if (found.rstrip) end += leading_white_space(input.substr(end));
    if (begin > done) text(input.substr(done, begin - done));
    token(found.id);
    done = at = end;
  }
  if (done < input.size()) text(input.substr(done));
}

}  // namespace pleat
