#include "core/text/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "core/text/jinja_bounds.h"
#include "core/text/jinja_characters.h"
#include "core/text/utf8.h"

namespace pleat::jinja {
namespace {

// The shortest text that gives the number back, with a point or an exponent, as Python's repr.
std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const double size = std::fabs(value);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void write_quoted(const std::string& text, std::string& out, int line) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  append(out, {&quote, 1}, line);
  size_t length = 0;
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(length)) {
    const Utf8Step step = utf8_step(rest);
    length = step.length;
    const char c = rest[0];
    if (c == '\n')
      append(out, "\\n", line);
    else if (c == '\t')
      append(out, "\\t", line);
    else if (c == '\r')
      append(out, "\\r", line);
    else if (c == '\\' || c == quote)
      append(out, std::string{'\\', c}, line);
    else if (step.kind == Utf8Step::valid && !is_printable(step.codepoint))
      append(out, escape_of(step.codepoint), line);
    else
      append(out, rest.substr(0, length), line);
  }
  append(out, {&quote, 1}, line);
}

// As Python's str, or inside of a list as its repr.
void write_python(const Json& json, bool inside, std::string& out, int line) {
  std::string_view between;
  switch (json.type()) {
    case Json::value_t::null:
      return append(out, "None", line);
    case Json::value_t::boolean:
      return append(out, json.get<bool>() ? "True" : "False", line);
    case Json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      return inside ? write_quoted(text, out, line) : append(out, text, line);
    }
    case Json::value_t::number_float:
      return append(out, number_text(json.get<double>()), line);
    case Json::value_t::array:
      append(out, "[", line);
      for (const Json& item : json) {
        append(out, between, line);
        write_python(item, true, out, line);
        between = ", ";
      }
      return append(out, "]", line);
    case Json::value_t::object:
      append(out, "{", line);
      for (const auto& [key, value] : json.items()) {
        append(out, between, line);
        write_quoted(key, out, line);
        append(out, ": ", line);
        write_python(value, true, out, line);
        between = ", ";
      }
      return append(out, "}", line);
    default:
      return append(out, json.dump(), line);
  }
}

std::string json_text(const Json& json, bool ascii) {
  return json.dump(-1, ' ', ascii, Json::error_handler_t::replace);
}

void write_json(const Json& json, const JsonStyle& style, int64_t level, std::string& out, int line) {
  if (json.is_number_float()) return append(out, number_text(json.get<double>()), line);
  if (!json.is_structured()) return append(out, json_text(json, style.ascii), line);
  const auto break_line = [&](int64_t depth) {
    if (style.indent < 0) return;
    append(out, "\n", line);
    append_times(out, " ", style.indent * depth, line);
  };
  std::vector<Json::const_iterator> items;
  for (auto item = json.begin(); item != json.end(); ++item) items.push_back(item);
  if (style.sorted && json.is_object())
    std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.key() < b.key(); });
  append(out, json.is_array() ? "[" : "{", line);
  std::string_view between;
  for (const auto& item : items) {
    append(out, between, line);
    between = style.between;
    break_line(level + 1);
    if (json.is_object()) append(out, json_text(item.key(), style.ascii) + style.colon, line);
    write_json(*item, style, level + 1, out, line);
  }
  if (!json.empty()) break_line(level);
  append(out, json.is_array() ? "]" : "}", line);
}

}  // namespace

int64_t size_of(const Json& json) {
  if (json.is_string()) return 1 + int64_t(json.get_ref<const std::string&>().size() / 64);
  int64_t size = 1;
  if (json.is_structured())
    for (const Json& part : json) size += size_of(part);
  return size;
}

bool is_true(const Value& value) {
  if (!value.defined) return false;
  if (value.space) return true;
  const Json& json = value.json;
  if (json.is_null()) return false;
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_float()) return json.get<double>() != 0;
  if (json.is_number()) return json.get<int64_t>() != 0;
  if (json.is_string()) return !json.get_ref<const std::string&>().empty();
  return !json.empty();
}

bool is_equal(const Json& a, const Json& b) {
  if (a.is_boolean() || b.is_boolean()) {  // true is 1
    const auto is_number = [](const Json& json) { return json.is_boolean() || json.is_number(); };
    const auto number = [](const Json& json) { return json.is_boolean() ? Json(int(json.get<bool>())) : json; };
    return is_number(a) && is_number(b) && number(a) == number(b);
  }
  if (!a.is_structured() || a.type() != b.type()) return a == b;
  if (a.size() != b.size()) return false;
  if (a.is_array())
    return std::equal(a.begin(), a.end(), b.begin(), [](const Json& x, const Json& y) { return is_equal(x, y); });
  auto same_place = b.begin();
  for (auto item = a.begin(); item != a.end(); ++item, ++same_place) {  // the order of keys does not matter
    const auto other = same_place.key() == item.key() ? same_place : b.find(item.key());
    if (other == b.end() || !is_equal(*item, *other)) return false;
  }
  return true;
}

bool is_equal(const Value& a, const Value& b) { return a.defined == b.defined && is_equal(a.json, b.json); }

std::string text_of(const Value& value, int line) {
  std::string out;
  if (value.defined) write_python(value.json, false, out, line);
  return out;
}

std::string repr_of(const Value& value, int line) {
  if (!value.defined) return "Undefined";
  if (value.macro) return text_of(value, line);
  std::string out;
  write_python(value.json, true, out, line);
  return out;
}

std::string to_json_text(const Json& json, const JsonStyle& style, int line) {
  std::string out;
  write_json(json, style, 0, out, line);
  return out;
}

}  // namespace pleat::jinja
