#include "core/text/jinja_lexer.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "core/text/jinja_characters.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

// \r\n and \r are \n, and the last one is not part of the template.
std::string plain_lines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && source.substr(i + 1, 1) == "\n") continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

// Where the next tag begins, or the end.
size_t find_tag(std::string_view source, size_t at) {
  for (; (at = source.find('{', at)) < source.size(); ++at) {
    const std::string_view next = source.substr(at + 1, 1);
    if (next == "{" || next == "%" || next == "#") return at;
  }
  return source.size();
}

// White space before a block tag that begins its line goes (lstrip_blocks). at_line_start: of the text.
std::string_view without_line_start(std::string_view text, bool at_line_start) {
  const size_t line = text.rfind('\n');
  if (line == std::string_view::npos && !at_line_start) return text;
  const size_t begin = line == std::string_view::npos ? 0 : line + 1;
  return without_leading_space(text.substr(begin)).empty() ? text.substr(0, begin) : text;
}

// The end of what began at `from`, outside of quotes and brackets.
size_t find_end(std::string_view source, size_t from, std::string_view closing, int line) {
  char quote = 0;
  int depth = 0;
  for (size_t i = from; i < source.size(); ++i) {
    const char c = source[i];
    if (quote) {
      if (c == '\\') ++i;
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (depth == 0 && source.substr(i, closing.size()) == closing) {
      return i;
    } else if (c == '(' || c == '[' || c == '{') {
      ++depth;
    } else if ((c == ')' || c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  refuse(line, concat("a tag is not closed by '", closing, "'"));
}

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

std::vector<Piece> cut(std::string_view template_text) {
  const std::string lines = plain_lines(template_text);
  const std::string_view source = lines;
  std::vector<Piece> pieces;
  int line = 1;
  bool at_line_start = true;  // where the text begins
  size_t at = 0;
  // Goes on to `next`.
  const auto pass = [&](size_t next) {
    line += int(std::count(source.begin() + long(at), source.begin() + long(next), '\n'));
    at = next;
  };
  while (at < source.size()) {
    const size_t tag = find_tag(source, at);
    const char kind = tag < source.size() ? source[tag + 1] : 0;
    size_t begin = std::min(tag + 2, source.size());
    const char control = begin < source.size() ? source[begin] : ' ';
    std::string_view text = source.substr(at, tag - at);
    if (kind && control == '-')
      text = without_trailing_space(text);
    else if (kind && kind != '{' && control != '+')
      text = without_line_start(text, at_line_start);
    if (!text.empty()) pieces.push_back({Piece::text, std::string(text), line});
    pass(tag);
    if (!kind) break;
    if (control == '-' || control == '+') ++begin;
    const std::string_view closing = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    size_t end = kind == '#' ? source.find(closing, begin) : find_end(source, begin, closing, line);
    if (end == std::string_view::npos) refuse(line, "a comment is not closed");
    const size_t next = end + 2;
    const char last = end > begin ? source[end - 1] : ' ';
    const bool plus = last == '+' && kind != '{';
    if (last == '-' || plus) --end;
    if (kind != '#')
      pieces.push_back(
          {kind == '{' ? Piece::expression : Piece::statement, std::string(source.substr(begin, end - begin)), line});
    pass(next);
    at_line_start = false;
    if (last == '-') {
      pass(source.size() - without_leading_space(source.substr(at)).size());
    } else if (kind != '{' && !plus && source.substr(at, 1) == "\n") {  // trim_blocks
      pass(at + 1);
      at_line_start = true;
    }
  }
  return pieces;
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
