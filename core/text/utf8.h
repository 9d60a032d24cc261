#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pleat {

// What stands at the beginning of a byte string. Ill-formed bytes are taken in the pieces Unicode recommends to replace
// by one U+FFFD each (the longest prefix of a well-formed sequence, or one byte).
struct Utf8Step {
  enum Kind { valid, invalid, incomplete };  // incomplete: the string ends inside what may still become well-formed
  Kind kind = invalid;
  size_t length = 1;
  char32_t codepoint = 0;  // if valid
};

Utf8Step utf8_step(std::string_view text);  // text is not empty
// The length of the longest well-formed prefix.
size_t valid_utf8_prefix(std::string_view text);
void append_utf8(char32_t codepoint, std::string& out);

// The White_Space property, as a predicate and as the inside of a regular expression's character class. (PCRE2's own \s
// also takes U+180E, which lost the property in Unicode 6.3.)
bool is_white_space(char32_t codepoint);
constexpr std::string_view kWhiteSpaceClass =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

}  // namespace pleat
