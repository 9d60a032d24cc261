#include "core/text/jinja_lexer.h"

#include <algorithm>
#include <cctype>

#include "kernels/check.h"

namespace pleat::jinja {
namespace {

// White space before a block tag that begins its line goes (lstrip_blocks). at_line_start: of the text.
void strip_line_start(std::string& text, bool at_line_start) {
  const size_t line = text.find_last_of('\n');
  if (line == std::string::npos && !at_line_start) return;
  const size_t begin = line == std::string::npos ? 0 : line + 1;
  if (text.find_first_not_of(" \t", begin) == std::string::npos) text.erase(begin);
}

void strip_end(std::string& text) {
  while (!text.empty() && std::isspace(uint8_t(text.back()))) text.pop_back();
}

// The end of what began at `from`, quoted parts skipped.
size_t find_end(std::string_view source, size_t from, std::string_view closing, int line) {
  char quote = 0;
  for (size_t i = from; i < source.size(); ++i) {
    const char c = source[i];
    if (quote) {
      if (c == '\\') ++i;
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (source.substr(i, closing.size()) == closing) {
      return i;
    }
  }
  refuse(line, concat("a tag is not closed by '", closing, "'"));
}

}  // namespace

void refuse(int line, const std::string& what) {
  throw Error(ErrorKind::invalid, concat("chat template, line ", line, ": ", what));
}

std::vector<Piece> cut(std::string_view source) {
  std::vector<Piece> pieces;
  std::string text;
  int line = 1, text_line = 1;
  bool strip_next = false;    // a tag ended with "-"
  bool at_line_start = true;  // where the text began
  size_t at = 0;
  const auto add_text = [&] {
    if (!text.empty()) pieces.push_back({Piece::text, text, text_line});
    text.clear();
  };
  while (at < source.size()) {
    const std::string_view two = source.substr(at, 2);
    if (two != "{{" && two != "{%" && two != "{#") {
      const bool dropped = strip_next && std::isspace(uint8_t(source[at]));
      if (!dropped) {
        strip_next = false;
        if (text.empty()) text_line = line;
        text += source[at];
      }
      line += source[at] == '\n';
      ++at;
      continue;
    }
    const char kind = two[1];
    size_t begin = at + 2;
    const char control = begin < source.size() ? source[begin] : ' ';
    if (control == '-') strip_end(text);
    if (control != '-' && control != '+' && kind != '{') strip_line_start(text, at_line_start);
    if (control == '-' || control == '+') ++begin;
    add_text();
    const std::string_view closing = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    size_t end = kind == '#' ? source.find(closing, begin) : find_end(source, begin, closing, line);
    if (end == std::string_view::npos) refuse(line, "a comment is not closed");
    const size_t next = end + 2;
    const char last = end > begin ? source[end - 1] : ' ';
    if (last == '-' || last == '+') --end;
    const std::string content(source.substr(begin, end - begin));
    if (kind != '#') pieces.push_back({kind == '{' ? Piece::expression : Piece::statement, content, line});
    line += int(std::count(source.begin() + long(at), source.begin() + long(next), '\n'));
    at = next;
    strip_next = last == '-';
    at_line_start = false;
    if (kind != '{' && last != '-' && last != '+' && at < source.size() && source[at] == '\n') {  // trim_blocks
      ++at;
      ++line;
      at_line_start = true;
    }
  }
  add_text();
  // One newline at the very end goes, as Jinja does by default.
  if (!pieces.empty() && pieces.back().kind == Piece::text && pieces.back().content.ends_with('\n') &&
      source.ends_with('\n'))
    pieces.back().content.pop_back();
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
      std::string value;
      for (++i; i < s.size() && s[i] != c; ++i) {
        if (s[i] != '\\' || i + 1 == s.size()) {
          value += s[i];
          continue;
        }
        const char escaped = s[++i];
        switch (escaped) {
          case 'n':
            value += '\n';
            break;
          case 't':
            value += '\t';
            break;
          case 'r':
            value += '\r';
            break;
          case '\\':
          case '\'':
          case '"':
            value += escaped;
            break;
          default:
            value += {'\\', escaped};
        }
      }
      ++i;
      tokens.push_back({Token::string, value, line});
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
