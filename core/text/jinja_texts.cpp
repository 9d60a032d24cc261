#include "core/text/jinja_texts.h"

#include <utf8proc.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <set>
#include <utility>

#include "core/text/jinja_bounds.h"
#include "core/text/jinja_characters.h"
#include "core/text/jinja_lexer.h"
#include "core/text/jinja_operators.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

// Calls change(character) for every character; ill-formed bytes stay.
template <class Change>
std::string changed(std::string_view text, Change change) {
  std::string out;
  for (size_t length = 0; !text.empty(); text.remove_prefix(length)) {
    const Utf8Step step = utf8_step(text);
    length = step.length;
    if (step.kind == Utf8Step::valid)
      append_utf8(char32_t(change(utf8proc_int32_t(step.codepoint))), out);
    else
      out += text.substr(0, length);
  }
  return out;
}

// Python's method: every letter behind something that has no case begins a word.
std::string titled(std::string_view text) {
  bool inside = false;
  return changed(text, [&](utf8proc_int32_t c) {
    const auto category = utf8proc_category(c);
    const auto out = inside ? utf8proc_tolower(c) : utf8proc_totitle(c);
    inside = category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
    return out;
  });
}

// What Python's float() and int() read: no white space around, an underscore only between digits. Empty: neither.
std::string digits_of(std::string_view text) {
  std::string out;
  text = without_leading_space(without_trailing_space(text));
  const auto is_digit = [&](size_t i) { return i < text.size() && std::isdigit(uint8_t(text[i])); };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_')
      out += text[i];
    else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1))
      return {};
  }
  if (out.starts_with('+')) out.erase(0, 1);
  return out.starts_with("+") || out.starts_with("-+") ? std::string() : out;
}

}  // namespace

int64_t integer_of(const Value& value, int line, const char* what) {
  if (!value.defined || !(value.json.is_number_integer() || value.json.is_boolean()))
    refuse(line, concat(what, " is not a whole number"));
  if (value.json.is_number() && std::fabs(value.json.get<double>()) > 9e15) refuse(line, "a number is too large");
  return value.json.is_boolean() ? int64_t(value.json.get<bool>()) : value.json.get<int64_t>();
}

std::string string_of(const Value& value, int line, const char* what) {
  if (!value.defined || !value.json.is_string()) refuse(line, concat(what, " is not a text"));
  return value.json.get_ref<const std::string&>();
}

std::string stripped(std::string_view text, const Value& characters, bool left, bool right, const Arguments& a) {
  const size_t before = text.size();
  if (characters.defined && characters.json.is_null()) {
    if (left) text = without_leading_space(text);
    if (right) text = without_trailing_space(text);
  } else {
    const std::string all = string_of(characters, a.line, "what is stripped");
    std::set<std::string_view> goes;
    for (std::string_view rest = all; !rest.empty(); rest.remove_prefix(first_character(rest).size()))
      goes.insert(first_character(rest));
    while (left && !text.empty() && goes.contains(first_character(text)))
      text.remove_prefix(first_character(text).size());
    while (right && !text.empty() && goes.contains(last_character(text)))
      text.remove_suffix(last_character(text).size());
  }
  a.steps->take(a.line, int64_t(before - text.size()) / 8);
  return std::string(text);
}

std::string upper_case(std::string_view text) { return changed(text, utf8proc_toupper); }
std::string lower_case(std::string_view text) { return changed(text, utf8proc_tolower); }

// Jinja's filter, unlike Python's method, begins words only behind white space and - ( { [ <.
std::string titled_words(std::string_view text) {
  bool begins = true;
  return changed(text, [&](utf8proc_int32_t c) {
    const auto out = begins ? utf8proc_toupper(c) : utf8proc_tolower(c);
    std::string character;
    append_utf8(char32_t(c), character);
    begins = is_space(character) || std::string_view("-({[<").find(character) != std::string_view::npos;
    return out;
  });
}

std::string capitalized(std::string_view text) {
  bool first = true;
  return changed(text, [&](utf8proc_int32_t c) {
    return std::exchange(first, false) ? utf8proc_totitle(c) : utf8proc_tolower(c);
  });
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t most, int line) {
  std::string out;
  for (; most != 0; --most) {
    // An empty text is found before every character and at the end.
    const size_t found = find_in(text, from);
    if (found == std::string_view::npos) break;
    append(out, text.substr(0, found), line);
    append(out, to, line);
    text.remove_prefix(found + from.size());
    if (!from.empty()) continue;
    if (text.empty()) break;
    append(out, first_character(text), line);
    text.remove_prefix(first_character(text).size());
  }
  append(out, text, line);
  return out;
}

Json split(std::string_view text, const Value& separator, int64_t most, int line) {
  Json out = Json::array();
  const auto add = [&](std::string_view part) {
    if (out.size() >= kMostParts) refuse(line, "a text has too many parts");
    out.push_back(std::string(part));
  };
  const auto is_last = [&] { return most >= 0 && int64_t(out.size()) == most; };
  if (separator.defined && separator.json.is_null()) {
    while (!(text = without_leading_space(text)).empty()) {
      if (is_last()) return add(text), out;
      size_t length = 0;
      while (length < text.size() && !is_space(first_character(text.substr(length))))
        length += first_character(text.substr(length)).size();
      add(text.substr(0, length));
      text.remove_prefix(length);
    }
    return out;
  }
  const std::string cut = string_of(separator, line, "a separator");
  if (cut.empty()) refuse(line, "a separator is empty");
  for (size_t found; !is_last() && (found = find_in(text, cut)) != std::string_view::npos;
       text.remove_prefix(found + cut.size()))
    add(text.substr(0, found));
  return add(text), out;
}

Value string_method(const std::string& text, const std::string& name, const Arguments& a) {
  // Parameters without a name in Python are "_".
  static constexpr Signature kMethods[] = {{"strip", "_"},
                                           {"lstrip", "_"},
                                           {"rstrip", "_"},
                                           {"split", "sep maxsplit"},
                                           {"startswith", "_!"},
                                           {"endswith", "_!"},
                                           {"upper", ""},
                                           {"lower", ""},
                                           {"title", ""},
                                           {"capitalize", ""},
                                           {"replace", "_! _! count"},
                                           {"find", "_!"},
                                           {"join", "_!"}};
  if (!check_arguments(kMethods, name, a)) refuse(a.line, concat("unknown method '", name, "' of a text"));
  const auto argument = [&](size_t i) { return string_of(a.get(i, "_"), a.line, "an argument"); };
  if (name.ends_with("strip")) return Json(stripped(text, a.get(0, "_"), name != "rstrip", name != "lstrip", a));
  if (name == "split")
    return split(text, a.get(0, "sep"), integer_of(a.get(1, "maxsplit", Json(-1)), a.line, "maxsplit"), a.line);
  if (name == "startswith" || name == "endswith") {
    const Value what = a.get(0, "_");
    for (const Json& one : what.json.is_array() ? what.json : Json::array({string_of(what, a.line, "an argument")})) {
      const std::string part = string_of(one, a.line, "an argument");
      if (name == "startswith" ? text.starts_with(part) : text.ends_with(part)) return Json(true);
    }
    return Json(false);
  }
  if (name == "upper") return Json(upper_case(text));
  if (name == "lower") return Json(lower_case(text));
  if (name == "title") return Json(titled(text));
  if (name == "capitalize") return Json(capitalized(text));
  if (name == "replace") {
    const int64_t most = integer_of(a.get(2, "count", Json(-1)), a.line, "a count");
    return Json(replaced(text, argument(0), argument(1), most, a.line));
  }
  if (name == "find") {
    const size_t found = find_in(text, argument(0));
    return Json(found == std::string_view::npos ? int64_t(-1) : character_count(text.substr(0, found)));
  }
  std::string out;
  const Json items = items_of(a.get(0, "_"), a.line);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) append(out, text, a.line);
    append(out, string_of(items[i], a.line, "an item"), a.line);
  }
  return Json(out);
}

std::string centered(std::string_view text, int64_t width, int line) {
  const int64_t more = std::max<int64_t>(0, width - character_count(text));
  const int64_t left = more / 2 + (more & width & 1);  // as Python does it
  std::string out;
  append_times(out, " ", left, line);
  append(out, text, line);
  append_times(out, " ", more - left, line);
  return out;
}

int64_t word_count(std::string_view text) {
  int64_t count = 0;
  for (bool inside = false; !text.empty();) {
    const Utf8Step step = utf8_step(text);
    const bool in_word = step.kind == Utf8Step::valid && is_word(step.codepoint);
    count += in_word && !inside;
    inside = in_word;
    text.remove_prefix(step.length);
  }
  return count;
}

std::string indented(std::string_view text, const Arguments& a) {
  const Value width = a.get(0, "width", Json(4));
  std::string margin;
  if (width.json.is_string())
    margin = width.json.get<std::string>();
  else
    append_times(margin, " ", integer_of(width, a.line, "a width"), a.line);
  const bool first = is_true(a.get(1, "first", Json(false))), blank = is_true(a.get(2, "blank", Json(false)));
  const std::string ended =
      concat(text, '\n');  // as Jinja does, so that there is a first line and no last newline goes
  std::string out;
  bool is_first = true;
  for (const std::string_view line : lines_of(ended)) {
    if (!is_first) append(out, "\n", a.line);
    if (is_first ? first : blank || !line.empty()) append(out, margin, a.line);
    append(out, line, a.line);
    is_first = false;
  }
  return out;
}

std::optional<double> float_of(std::string_view text) {
  const std::string digits = digits_of(text);
  double number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || digits.find('(') != std::string::npos || end != digits.data() + digits.size())
    return std::nullopt;
  if (error == std::errc::result_out_of_range) return std::strtod(digits.c_str(), nullptr);  // 0 or infinite
  return number;
}

std::optional<int64_t> whole_of(std::string_view text, int line) {
  const std::string digits = digits_of(text);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || end != digits.data() + digits.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) refuse(line, "a number is too large");
  return number;
}

}  // namespace pleat::jinja
