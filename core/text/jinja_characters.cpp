#include "core/text/jinja_characters.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "core/text/utf8.h"

namespace pleat::jinja {
namespace {

// What the character is, 0 where it is none.
char32_t codepoint_of(std::string_view character) {
  if (character.empty()) return 0;
  const Utf8Step step = utf8_step(character);
  return step.kind == Utf8Step::valid && step.length == character.size() ? step.codepoint : 0;
}

bool ends_line(char32_t c) {
  return (c >= 0xa && c <= 0xd) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

int64_t character_count(std::string_view text) {
  int64_t count = 0;
  for (; !text.empty(); text.remove_prefix(first_character(text).size())) ++count;
  return count;
}

std::string_view first_character(std::string_view text) { return text.substr(0, utf8_step(text).length); }

std::string_view last_character(std::string_view text) {
  const size_t longest = std::min<size_t>(4, text.size());
  for (size_t length = 2; length <= longest; ++length) {
    const std::string_view end = text.substr(text.size() - length);
    if (codepoint_of(end)) return end;
  }
  return text.substr(text.size() - 1);
}

bool is_space(std::string_view character) {
  const char32_t c = codepoint_of(character);
  return is_white_space(c) || (c >= 0x1c && c <= 0x1f);
}

bool is_word(char32_t codepoint) {
  switch (utf8proc_category(utf8proc_int32_t(codepoint))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return true;
    default:
      return codepoint == U'_';
  }
}

bool is_printable(char32_t codepoint) {
  switch (utf8proc_category(utf8proc_int32_t(codepoint))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return codepoint == U' ';
    default:
      return true;
  }
}

std::string escape_of(char32_t codepoint) {
  char text[16];
  const char* format = codepoint < 0x100 ? "\\x%02x" : codepoint < 0x10000 ? "\\u%04x" : "\\U%08x";
  return {text, size_t(std::snprintf(text, sizeof(text), format, unsigned(codepoint)))};
}

std::string_view without_leading_space(std::string_view text) {
  while (!text.empty() && is_space(first_character(text))) text.remove_prefix(first_character(text).size());
  return text;
}

std::string_view without_trailing_space(std::string_view text) {
  while (!text.empty() && is_space(last_character(text))) text.remove_suffix(last_character(text).size());
  return text;
}

size_t find_in(std::string_view text, std::string_view part) {
  if (part.empty()) return 0;
  const void* found = memmem(text.data(), text.size(), part.data(), part.size());
  return found ? size_t(static_cast<const char*>(found) - text.data()) : std::string_view::npos;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  std::string_view rest = text;
  const auto end_line = [&](size_t ending) {
    const size_t length = size_t(rest.data() - text.data());
    lines.push_back(text.substr(0, length));
    rest.remove_prefix(ending);
    text = rest;
  };
  while (!rest.empty()) {
    const std::string_view character = first_character(rest);
    if (rest.starts_with("\r\n"))
      end_line(2);
    else if (ends_line(codepoint_of(character)))
      end_line(character.size());
    else
      rest.remove_prefix(character.size());
  }
  if (!text.empty()) lines.push_back(text);
  return lines;
}

}  // namespace pleat::jinja
