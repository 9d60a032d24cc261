#include "core/text/jinja_format.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <span>

#include "core/text/jinja_characters.h"
#include "core/text/jinja_lexer.h"
#include "core/text/jinja_numerals.h"
#include "core/text/jinja_texts.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

class Formatter {
 public:
  Formatter(std::string_view format, std::span<const Value> values, const std::map<std::string, Value>* named,
            Steps& steps, int line)
      : rest_(format), values_(values), named_(named), steps_(steps), line_(line) {}

  // all: no value may be left.
  std::string run(bool all) {
    for (size_t found; (found = rest_.find('%')) != std::string_view::npos;) {
      append(out_, rest_.substr(0, found), line_);
      rest_.remove_prefix(found + 1);
      if (take('%'))
        append(out_, "%", line_);
      else
        write(place());
    }
    append(out_, rest_, line_);
    if (all && used_ < values_.size()) refuse(line_, "a text with % has more values than places");
    return std::move(out_);
  }

 private:
  char take() {
    if (rest_.empty()) refuse(line_, "a text ends within what a % begins");
    const char c = rest_[0];
    rest_.remove_prefix(1);
    return c;
  }
  bool take(char c) { return rest_.starts_with(c) && (take(), true); }

  const Value& next() {
    if (used_ == values_.size()) refuse(line_, "a text with % has fewer values than places");
    const Value& value = values_[used_++];
    steps_.take(line_, size_of(value.json));
    return value;
  }

  Place place() {
    Place out;
    if (take('(')) choose(key());
    for (;;) {
      if (take('-'))
        out.left = true;
      else if (take('+'))
        out.plus = true;
      else if (take(' '))
        out.space = true;
      else if (take('#'))
        out.alternate = true;
      else if (take('0'))
        out.zeros = true;
      else
        break;
    }
    out.width = number();
    if (out.width && *out.width < 0) {
      out.left = true;
      out.width = -*out.width;
    }
    if (take('.')) out.precision = std::max<int64_t>(0, number().value_or(0));
    if (rest_.starts_with('h') || rest_.starts_with('l') || rest_.starts_with('L')) take();
    out.type = take();
    return out;
  }

  std::string key() {
    std::string out;
    for (int depth = 1;;) {
      const char c = take();
      depth += (c == '(') - (c == ')');
      if (depth == 0) return out;
      out += c;
    }
  }
  void choose(const std::string& key) {
    if (!named_) refuse(line_, "a text with %(...) needs a dictionary");
    const auto found = named_->find(key);
    if (found == named_->end()) refuse(line_, concat("the dictionary has no '", key, "' for a text with %"));
    values_ = {&found->second, 1};
    used_ = 0;
  }

  std::optional<int64_t> number() {
    if (take('*')) {
      const int64_t out = integer_of(next(), line_, "the * of a text with %");
      if (std::abs(out) > int64_t(kMostOutput)) refuse(line_, "the text becomes too long");
      return out;
    }
    int64_t out = 0;
    bool any = false;
    while (!rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9') {
      out = out * 10 + (take() - '0');
      any = true;
      if (out > int64_t(kMostOutput)) refuse(line_, "the text becomes too long");
    }
    return any ? std::optional(out) : std::nullopt;
  }

  void write(const Place& place) {
    switch (place.type) {
      case 's':
        return write_text(place, text_of(next(), line_));
      case 'r':
        return write_text(place, repr_of(next(), line_));
      case 'c':
        return pad(place, "", character(next()));
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X':
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        const Numeral number = numeral_of(place, next(), line_);
        return pad(place, number.sign, number.digits, place.zeros);
      }
      default:
        refuse(line_, concat("a text has the unknown place '%", place.type, "'"));
    }
  }

  void write_text(const Place& place, const std::string& text) {
    std::string_view shown = text;
    if (place.precision) {
      size_t length = 0;
      for (int64_t i = 0; i < *place.precision && length < shown.size(); ++i)
        length += first_character(shown.substr(length)).size();
      shown = shown.substr(0, length);
    }
    pad(place, "", std::string(shown));
  }

  void pad(const Place& place, const std::string& sign, const std::string& text, bool zeros = false) {
    const int64_t more = place.width.value_or(0) - int64_t(sign.size()) - character_count(text);
    if (!place.left && !zeros) append_times(out_, " ", more, line_);
    append(out_, sign, line_);
    if (!place.left && zeros) append_times(out_, "0", more, line_);
    append(out_, text, line_);
    if (place.left) append_times(out_, " ", more, line_);
  }

  std::string character(const Value& value) {
    std::string out;
    if (value.defined && (value.json.is_number_integer() || value.json.is_boolean())) {
      const int64_t code = integer_of(value, line_, "a character");
      if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        refuse(line_, concat("no character has the number ", code));
      append_utf8(char32_t(code), out);
      return out;
    }
    if (value.defined && value.json.is_string()) out = value.json.get<std::string>();
    if (out.empty() || first_character(out).size() != out.size())
      refuse(line_, "'%c' needs a character or the number of one");
    return out;
  }

  std::string_view rest_;
  std::span<const Value> values_;
  const std::map<std::string, Value>* named_;
  Steps& steps_;
  const int line_;
  size_t used_ = 0;
  std::string out_;
};

}  // namespace

std::string formatted(std::string_view format, const std::vector<Value>& tuple, Steps& steps, int line) {
  return Formatter(format, tuple, nullptr, steps, line).run(true);
}

std::string formatted(std::string_view format, const std::map<std::string, Value>& named, Steps& steps, int line) {
  Json whole = Json::object();
  for (const auto& [name, value] : named) whole[name] = value.json;
  const Value one = whole;
  return Formatter(format, {&one, 1}, &named, steps, line).run(false);
}

// A list need not be used, as in Python, where it might have had keys.
std::string formatted(std::string_view format, const Value& one, Steps& steps, int line) {
  if (!one.json.is_object())
    return Formatter(format, {&one, 1}, nullptr, steps, line).run(one.defined && !one.json.is_array());
  std::map<std::string, Value> named;
  for (const auto& [name, value] : one.json.items()) named.emplace(name, value);
  return Formatter(format, {&one, 1}, &named, steps, line).run(false);
}

}  // namespace pleat::jinja
