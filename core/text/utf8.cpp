#include "core/text/utf8.h"

namespace pleat {
namespace {

struct Lead {
  size_t length = 0;  // 0: no sequence begins with this byte
  uint8_t second_min = 0x80, second_max = 0xbf;
};

// Table 3-7 of the Unicode standard.
Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xc2) return {};
  if (byte < 0xe0) return {2};
  if (byte == 0xe0) return {3, 0xa0};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3};
  if (byte == 0xf0) return {4, 0x90};
  if (byte < 0xf4) return {4};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {};
}

}  // namespace

Utf8Step utf8_step(std::string_view text) {
  const uint8_t first = uint8_t(text[0]);
  const Lead lead = lead_of(first);
  if (lead.length == 0) return {Utf8Step::invalid, 1};
  if (lead.length == 1) return {Utf8Step::valid, 1, first};
  char32_t codepoint = first & (0xffu >> (lead.length + 1));
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {Utf8Step::incomplete, i};
    const uint8_t byte = uint8_t(text[i]);
    const bool fits = i == 1 ? lead.second_min <= byte && byte <= lead.second_max : (byte & 0xc0) == 0x80;
    if (!fits) return {Utf8Step::invalid, i};
    codepoint = codepoint << 6 | (byte & 0x3f);
  }
  return {Utf8Step::valid, lead.length, codepoint};
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Step step = utf8_step(text.substr(length));
    if (step.kind != Utf8Step::valid) break;
    length += step.length;
  }
  return length;
}

void append_utf8(char32_t codepoint, std::string& out) {
  if (codepoint < 0x80) {
    out += char(codepoint);
  } else if (codepoint < 0x800) {
    out += char(0xc0 | codepoint >> 6);
    out += char(0x80 | (codepoint & 0x3f));
  } else if (codepoint < 0x10000) {
    out += char(0xe0 | codepoint >> 12);
    out += char(0x80 | (codepoint >> 6 & 0x3f));
    out += char(0x80 | (codepoint & 0x3f));
  } else {
    out += char(0xf0 | codepoint >> 18);
    out += char(0x80 | (codepoint >> 12 & 0x3f));
    out += char(0x80 | (codepoint >> 6 & 0x3f));
    out += char(0x80 | (codepoint & 0x3f));
  }
}

bool is_white_space(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace pleat
