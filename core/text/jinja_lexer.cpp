#include "core/text/jinja_lexer.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "core/text/jinja_characters.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

char32_t code_of(std::string_view digits, int base) {
  uint32_t code = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
  return code;
}

// What Python's unicode-escape makes of it: Jinja decodes texts with that, after it has written characters outside of
// ASCII as escapes, so that a backslash before one of them keeps the escape from being read.
std::string unescaped(std::string_view text, int line) {
  constexpr std::string_view kNames = "\\'\"abfnrtv", kMeanings = "\\'\"\a\b\f\n\r\t\v";
  std::string out;
  const auto take = [&](size_t length) {
    const std::string_view taken = text.substr(0, length);
    text.remove_prefix(taken.size());
    return taken;
  };
  while (!text.empty()) {
    const char c = take(1)[0];
    if (c != '\\' || text.empty()) {
      out += c;
      continue;
    }
    const Utf8Step step = utf8_step(text);
    const char name = text[0];
    if (name >= '0' && name <= '7') {
      append_utf8(code_of(take(std::min<size_t>(3, text.find_first_not_of("01234567"))), 8), out);
    } else if (const size_t place = kNames.find(name); place != std::string_view::npos) {
      out += kMeanings[place];
      take(1);
    } else if (name == 'x' || name == 'u' || name == 'U') {
      take(1);
      const size_t length = name == 'x' ? 2 : name == 'u' ? 4 : 8;
      const std::string_view digits = take(length);
      const char32_t code = code_of(digits, 16);
      if (digits.size() < length || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos)
        refuse(line, concat("'\\", name, "' needs ", length, " hexadecimal digits"));
      if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        refuse(line, concat("no character has the code ", digits));
      append_utf8(code, out);
    } else if (name == 'N') {
      refuse(line, "characters by their names ('\\N') are not supported");
    } else if (name == '\n') {
      take(1);
    } else if (step.kind == Utf8Step::valid && step.length > 1) {
      out += escape_of(step.codepoint);
      take(step.length);
    } else {
      out += {'\\', name};
      take(1);
    }
  }
  return out;
}

}  // namespace

void refuse(int line, const std::string& what) {
  throw Error(ErrorKind::invalid, concat("chat template, line ", line, ": ", what));
}

std::vector<Token> tokens_of(const Piece& piece) {
  const std::string& s = piece.content;
  std::vector<Token> tokens;
  int line = piece.line;
  const auto is_name = [](char c) { return std::isalnum(uint8_t(c)) || c == '_'; };
  for (size_t i = 0; i < s.size();) {
    const char c = s[i];
    if (std::isspace(uint8_t(c))) {
      line += c == '\n';
      ++i;
    } else if (c == '"' || c == '\'') {
      size_t end = i + 1;
      while (end < s.size() && s[end] != c) end += s[end] == '\\' ? 2 : 1;
      end = std::min(end, s.size());
      const std::string_view inside = std::string_view(s).substr(i + 1, end - i - 1);
      tokens.push_back({Token::string, unescaped(inside, line), line});
      line += int(std::count(inside.begin(), inside.end(), '\n'));
      i = end + 1;
    } else if (std::isdigit(uint8_t(c))) {
      size_t end = i;
      bool whole = true;
      while (end < s.size() && (std::isdigit(uint8_t(s[end])) ||
                                (s[end] == '.' && end + 1 < s.size() && std::isdigit(uint8_t(s[end + 1])) && whole))) {
        whole &= s[end] != '.';
        ++end;
      }
      const size_t exponent = s.find_first_not_of("0123456789", std::min(s.size(), end + 1));
      if (end + 1 < s.size() && (s[end] == 'e' || s[end] == 'E') && std::isdigit(uint8_t(s[end + 1]))) {
        end = std::min(exponent, s.size());
        whole = false;
      }
      if (end - i > (whole ? 18u : 40u)) refuse(line, "a number is too long");
      tokens.push_back({whole ? Token::integer : Token::number, s.substr(i, end - i), line});
      i = end;
    } else if (is_name(c)) {
      size_t end = i;
      while (end < s.size() && is_name(s[end])) ++end;
      tokens.push_back({Token::name, s.substr(i, end - i), line});
      i = end;
    } else {
      static constexpr std::string_view kTwo[] = {"==", "!=", "<=", ">=", "//", "**"};
      const std::string two = s.substr(i, 2);
      const size_t length = std::find(std::begin(kTwo), std::end(kTwo), two) != std::end(kTwo) ? 2 : 1;
      if (length == 1 && std::string_view("+-*/%~<>=()[]{},.:|").find(c) == std::string_view::npos)
        refuse(line, concat("unknown character '", c, "'"));
      tokens.push_back({Token::symbol, s.substr(i, length), line});
      i += length;
    }
  }
  tokens.push_back({Token::end, "", line});
  return tokens;
}

}  // namespace pleat::jinja
