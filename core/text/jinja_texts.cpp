#include "core/text/jinja_texts.h"

#include <algorithm>
#include <cctype>

#include "core/text/jinja_lexer.h"
#include "core/text/jinja_operators.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

// Python's method: every letter behind something else begins a word.
std::string titled(std::string text) {
  bool inside = false;
  for (char& c : text) {
    const bool letter = uint8_t(c) >= 0x80 || std::isalpha(uint8_t(c));
    if (uint8_t(c) < 0x80) c = char(inside ? std::tolower(c) : std::toupper(c));
    inside = letter;
  }
  return text;
}

}  // namespace

int64_t integer_of(const Value& value, int line, const char* what) {
  if (!value.defined || !(value.json.is_number_integer() || value.json.is_boolean()))
    refuse(line, concat(what, " is not a whole number"));
  return value.json.is_boolean() ? int64_t(value.json.get<bool>()) : value.json.get<int64_t>();
}

std::string string_of(const Value& value, int line, const char* what) {
  if (!value.defined || !value.json.is_string()) refuse(line, concat(what, " is not a text"));
  return value.json.get_ref<const std::string&>();
}

std::string stripped(const std::string& text, const std::string& characters, bool left, bool right) {
  size_t begin = 0, end = text.size();
  const auto goes = [&](char c) { return characters.find(c) != std::string::npos; };
  while (left && begin < end && goes(text[begin])) ++begin;
  while (right && end > begin && goes(text[end - 1])) --end;
  return text.substr(begin, end - begin);
}

std::string changed_case(std::string text, int (*change)(int)) {
  for (char& c : text)
    if (uint8_t(c) < 0x80) c = char(change(c));
  return text;
}

// Jinja's filter, unlike Python's method, begins words only behind white space and - ( { [ <.
std::string titled_words(std::string text) {
  bool begins = true;
  for (char& c : text) {
    const bool between = std::isspace(uint8_t(c)) || std::string_view("-({[<").find(c) != std::string_view::npos;
    if (uint8_t(c) < 0x80) c = char(begins ? std::toupper(c) : std::tolower(c));
    begins = between;
  }
  return text;
}

std::string capitalized(std::string text) {
  text = changed_case(std::move(text), std::tolower);
  if (!text.empty() && uint8_t(text[0]) < 0x80) text[0] = char(std::toupper(text[0]));
  return text;
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  if (from.empty()) return text;
  std::string out;
  size_t done = 0;
  for (size_t found; (found = text.find(from, done)) != std::string::npos; done = found + from.size())
    out += text.substr(done, found - done) + to;
  return out + text.substr(done);
}

Json split(const std::string& text, const Value& separator, int64_t most, int line) {
  Json out = Json::array();
  if (!separator.defined || separator.json.is_null()) {
    size_t at = 0;
    for (;;) {
      at = text.find_first_not_of(" \t\n\r\f\v", at);
      if (at == std::string::npos) return out;
      if (most >= 0 && int64_t(out.size()) == most) return out.push_back(text.substr(at)), out;
      const size_t end = std::min(text.find_first_of(" \t\n\r\f\v", at), text.size());
      out.push_back(text.substr(at, end - at));
      at = end;
    }
  }
  const std::string cut = string_of(separator, line, "a separator");
  if (cut.empty()) refuse(line, "a separator is empty");
  size_t done = 0;
  for (size_t found; (most < 0 || int64_t(out.size()) < most) && (found = text.find(cut, done)) != std::string::npos;
       done = found + cut.size())
    out.push_back(text.substr(done, found - done));
  out.push_back(text.substr(done));
  return out;
}

Value string_method(const std::string& text, const std::string& name, const Arguments& a) {
  const std::string spaces = " \t\n\r\f\v";
  const auto argument = [&](size_t i) -> std::string { return string_of(a.get(i, ""), a.line, "an argument"); };
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const std::string characters = a.values.empty() || a.values[0].json.is_null() ? spaces : argument(0);
    return Json(stripped(text, characters, name != "rstrip", name != "lstrip"));
  }
  if (name == "split") {
    const Value most = a.get(1, "maxsplit", Json(-1));
    return split(text, a.get(0, "sep", Json()), integer_of(most, a.line, "maxsplit"), a.line);
  }
  if (name == "startswith" || name == "endswith") {
    const Value what = a.get(0, "");
    for (const Json& one : what.json.is_array() ? what.json : Json::array({what.json})) {
      const std::string part = string_of(one, a.line, "an argument");
      if (name == "startswith" ? text.starts_with(part) : text.ends_with(part)) return Json(true);
    }
    return Json(false);
  }
  if (name == "upper") return Json(changed_case(text, std::toupper));
  if (name == "lower") return Json(changed_case(text, std::tolower));
  if (name == "title") return Json(titled(text));
  if (name == "capitalize") return Json(capitalized(text));
  if (name == "replace") return Json(replaced(text, argument(0), argument(1)));
  if (name == "find") {
    const size_t found = text.find(argument(0));
    return Json(found == std::string::npos ? int64_t(-1) : character_count(text.substr(0, found)));
  }
  if (name == "join") {
    std::string out;
    const Json items = items_of(a.get(0, ""), a.line);
    for (size_t i = 0; i < items.size(); ++i) out += (i > 0 ? text : "") + string_of(items[i], a.line, "an item");
    return Json(out);
  }
  refuse(a.line, concat("unknown method '", name, "' of a text"));
}

}  // namespace pleat::jinja
