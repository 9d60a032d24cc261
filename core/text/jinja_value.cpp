#include "core/text/jinja_value.h"

#include <charconv>
#include <cmath>

#include "core/text/utf8.h"
#include "kernels/check.h"

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

std::string quoted(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\\' || c == quote)
      out += {'\\', c};
    else
      out += c;
  }
  return out + quote;
}

std::string python_text(const Json& json, bool inside) {
  switch (json.type()) {
    case Json::value_t::null:
      return "None";
    case Json::value_t::boolean:
      return json.get<bool>() ? "True" : "False";
    case Json::value_t::string:
      return inside ? quoted(json.get<std::string>()) : json.get<std::string>();
    case Json::value_t::number_float:
      return number_text(json.get<double>());
    case Json::value_t::array: {
      std::string out = "[";
      for (const Json& item : json) out += concat(out.size() > 1 ? ", " : "", python_text(item, true));
      return out + ']';
    }
    case Json::value_t::object: {
      std::string out = "{";
      for (const auto& [key, value] : json.items())
        out += concat(out.size() > 1 ? ", " : "", quoted(key), ": ", python_text(value, true));
      return out + '}';
    }
    default:
      return json.dump();
  }
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

bool is_equal(const Value& a, const Value& b) {
  if (a.defined != b.defined) return false;
  const auto number = [](const Json& json) { return json.is_boolean() ? Json(int(json.get<bool>())) : json; };
  return number(a.json) == number(b.json);
}

std::string text_of(const Value& value) { return value.defined ? python_text(value.json, false) : ""; }

std::string to_json_text(const Json& json, int indent) {
  const auto nested = [&](auto& self, const Json& value, int level) -> std::string {
    const std::string line = indent < 0 ? "" : concat('\n', std::string(size_t(indent * (level + 1)), ' '));
    const std::string last = indent < 0 ? "" : concat('\n', std::string(size_t(indent * level), ' '));
    const std::string comma = indent < 0 ? ", " : ",";
    if (value.is_number_float()) return number_text(value.get<double>());
    if (!value.is_structured()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (value.empty()) return value.is_array() ? "[]" : "{}";
    std::string out;
    for (auto item = value.begin(); item != value.end(); ++item) {
      out += (out.empty() ? "" : comma) + line;
      if (value.is_object()) out += Json(item.key()).dump(-1, ' ', false, Json::error_handler_t::replace) + ": ";
      out += self(self, *item, level + 1);
    }
    return value.is_array() ? concat('[', out, last, ']') : concat('{', out, last, '}');
  };
  return nested(nested, json, 0);
}

int64_t character_count(const std::string& text) { return int64_t(characters_of(text).size()); }

std::vector<std::string> characters_of(const std::string& text) {
  std::vector<std::string> out;
  std::string_view rest = text;
  for (size_t length = 0; !rest.empty(); rest.remove_prefix(length)) {
    length = utf8_step(rest).length;
    out.emplace_back(rest.substr(0, length));
  }
  return out;
}

}  // namespace pleat::jinja
