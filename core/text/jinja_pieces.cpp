#include "core/text/jinja_pieces.h"

#include <algorithm>
#include <optional>

#include "core/text/jinja_characters.h"
#include "core/text/jinja_lexer.h"
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

struct TagEnd {
  size_t length;
  char sign;  // before the bracket
};
// Of {% endraw %}, if the text begins with it.
std::optional<TagEnd> end_of_raw(std::string_view text) {
  std::string_view rest = text.substr(2);
  if (rest.starts_with('-') || rest.starts_with('+')) rest.remove_prefix(1);
  rest = without_leading_space(rest);
  if (!rest.starts_with("endraw")) return std::nullopt;
  rest = without_leading_space(rest.substr(6));
  const char sign = rest.empty() ? ' ' : rest[0];
  if (sign == '-' || sign == '+') rest.remove_prefix(1);
  if (!rest.starts_with("%}")) return std::nullopt;
  return TagEnd{text.size() - rest.size() + 2, sign};
}

class Cutter {
 public:
  explicit Cutter(std::string_view source) : source_(source) {}

  std::vector<Piece> all() {
    while (at_ < source_.size()) {
      text(find_tag(source_, at_));
      if (at_ < source_.size()) tag();
    }
    return std::move(pieces_);
  }

 private:
  void pass(size_t next) {
    line_ += int(std::count(source_.begin() + long(at_), source_.begin() + long(next), '\n'));
    at_ = next;
  }

  // Up to the tag at `end`, or to the end.
  void text(size_t end) {
    std::string_view text = source_.substr(at_, end - at_);
    const std::string_view tag = source_.substr(end, 3);
    const char sign = tag.size() > 2 ? tag[2] : ' ';
    if (!tag.empty() && sign == '-')
      text = without_trailing_space(text);
    else if (!tag.empty() && tag[1] != '{' && sign != '+')
      text = without_line_start(text, at_line_start_);
    if (!text.empty()) pieces_.push_back({Piece::text, std::string(text), line_});
    pass(end);
  }

  void tag() {
    const char kind = source_[at_ + 1];
    const std::string_view first = source_.substr(at_ + 2, 1);
    const size_t begin = at_ + 2 + (first == "-" || first == "+");
    const std::string_view closing = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    size_t end = kind == '#' ? source_.find(closing, begin) : find_end(source_, begin, closing, line_);
    if (end == std::string_view::npos) refuse(line_, "a comment is not closed");
    const size_t next = end + 2;
    const char last = end > begin ? source_[end - 1] : ' ';
    const char sign = last == '-' || (last == '+' && kind != '{') ? last : ' ';
    if (sign != ' ') --end;
    const std::string_view content = source_.substr(begin, end - begin);
    if (kind == '%' && sign != '+' && without_leading_space(without_trailing_space(content)) == "raw")
      return raw(next, sign);
    if (kind != '#')
      pieces_.push_back({kind == '{' ? Piece::expression : Piece::statement, std::string(content), line_});
    end_tag(next, sign, kind != '{');
  }

  void raw(size_t next, char sign) {
    const int line = line_;
    end_tag(next, sign, false);
    for (size_t end = at_; (end = source_.find("{%", end)) < source_.size(); end += 2)
      if (const auto tag = end_of_raw(source_.substr(end))) {
        text(end);
        return end_tag(end + tag->length, tag->sign, true);
      }
    refuse(line, "'raw' has no 'endraw'");
  }

  // trims: the end of the line goes with the tag (trim_blocks).
  void end_tag(size_t next, char sign, bool trims) {
    pass(next);
    at_line_start_ = false;
    if (sign == '-') {
      pass(source_.size() - without_leading_space(source_.substr(at_)).size());
    } else if (trims && sign != '+' && source_.substr(at_, 1) == "\n") {
      pass(at_ + 1);
      at_line_start_ = true;
    }
  }

  const std::string_view source_;
  std::vector<Piece> pieces_;
  int line_ = 1;
  bool at_line_start_ = true;  // where the text begins
  size_t at_ = 0;
};

}  // namespace

std::vector<Piece> cut(std::string_view source) {
  const std::string lines = plain_lines(source);
  return Cutter(lines).all();
}

}  // namespace pleat::jinja
