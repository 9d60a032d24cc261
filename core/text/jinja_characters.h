#pragma once
// Texts as Python sees them: code points, not bytes. An ill-formed piece of UTF-8 counts as one.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pleat::jinja {

int64_t character_count(std::string_view text);
std::string_view first_character(std::string_view text);  // of a text that is not empty
std::string_view last_character(std::string_view text);   // likewise
// White space of str.isspace().
bool is_space(std::string_view character);
bool is_word(char32_t codepoint);           // \w: a letter, a digit or an underscore
bool is_printable(char32_t codepoint);      // of str.isprintable()
std::string escape_of(char32_t codepoint);  // \xNN, \uNNNN or \UNNNNNNNN
std::string_view without_leading_space(std::string_view text);
std::string_view without_trailing_space(std::string_view text);
// As text.find(part), in time that does not grow with the product of their lengths.
size_t find_in(std::string_view text, std::string_view part);
// str.splitlines()
std::vector<std::string_view> lines_of(std::string_view text);

}  // namespace pleat::jinja
