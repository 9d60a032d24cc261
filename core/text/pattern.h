#pragma once
// The patterns of tokenizer.json files: {"String": text} or {"Regex": an Oniguruma expression}.
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/text/regex.h"

namespace pleat {

class Pattern {
 public:
  explicit Pattern(const nlohmann::json& description);  // of an object that has a "pattern"
  explicit Pattern(Regex regex) : regex_(std::move(regex)) {}

  // Calls piece(text, match) for all of the text in order: matches, and what lies between them. Ill-formed bytes match
  // nothing.
  void each(std::string_view text, const std::function<void(std::string_view, bool match)>& piece) const;

 private:
  std::optional<Regex> regex_;  // else literal_
  std::string literal_;
};

// An Oniguruma expression as PCRE2 takes it: \s is the White_Space property, \h a hexadecimal digit, ^ and $ match at
// the borders of lines, sets may hold sets.
std::string pcre_of_oniguruma(std::string_view expression);

// Calls valid(run) for the longest well-formed runs and broken(bytes) for the ill-formed pieces between them.
template <class Valid, class Broken>
void each_valid_run(std::string_view text, Valid&& valid, Broken&& broken);

}  // namespace pleat

#include "core/text/utf8.h"

namespace pleat {

template <class Valid, class Broken>
void each_valid_run(std::string_view text, Valid&& valid, Broken&& broken) {
  while (!text.empty()) {
    const size_t length = valid_utf8_prefix(text);
    if (length > 0) valid(text.substr(0, length));
    text.remove_prefix(length);
    if (text.empty()) return;
    const size_t bad = utf8_step(text).length;
    broken(text.substr(0, bad));
    text.remove_prefix(bad);
  }
}

}  // namespace pleat
