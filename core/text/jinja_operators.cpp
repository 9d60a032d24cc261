#include "core/text/jinja_operators.h"

#include <algorithm>
#include <cmath>

#include "core/text/jinja_bounds.h"
#include "core/text/jinja_characters.h"
#include "core/text/jinja_lexer.h"
#include "core/text/jinja_texts.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

Json number_of(const Json& json) { return json.is_boolean() ? Json(int(json.get<bool>())) : json; }

}  // namespace

Json items_of(const Value& value, int line) {
  if (!value.defined) return Json::array();
  if (value.json.is_array()) return value.json;
  Json out = Json::array();
  if (value.json.is_object()) {
    for (const auto& [key, _] : value.json.items()) out.push_back(key);
  } else if (value.json.is_string()) {
    for (std::string_view rest = value.json.get_ref<const std::string&>(); !rest.empty();) {
      if (out.size() >= kMostParts) refuse(line, "a text has too many parts");
      out.push_back(std::string(first_character(rest)));
      rest.remove_prefix(first_character(rest).size());
    }
  } else {
    refuse(line, concat("'", text_of(value, line), "' is not a list"));
  }
  return out;
}

Value attribute(const Value& object, const std::string& name, int line) {
  if (!object.defined) refuse(line, concat("'", object.missing, "' is undefined"));
  if (object.space) {
    const auto found = object.space->find(name);
    return found == object.space->end() ? Value::undefined(name) : found->second;
  }
  if (object.json.is_object() && object.json.contains(name)) return Json(object.json[name]);
  return Value::undefined(name);
}

Value index(const Value& object, const Value& key, int line) {
  if (!object.defined) refuse(line, concat("'", object.missing, "' is undefined"));
  if (key.json.is_string()) return attribute(object, key.json.get<std::string>(), line);
  const Json number = number_of(key.json);
  if (!number.is_number_integer() || !(object.json.is_array() || object.json.is_string()))
    return Value::undefined(text_of(key, line));
  const auto missing = [&] { return Value::undefined(concat("item ", text_of(key, line))); };
  int64_t place = number.get<int64_t>();
  if (object.json.is_array()) {  // without copying the others
    const int64_t length = int64_t(object.json.size());
    if (place < 0) place += length;
    return place < 0 || place >= length ? missing() : Value(Json(object.json[size_t(place)]));
  }
  std::string_view text = object.json.get_ref<const std::string&>();
  if (place < 0) place += character_count(text);
  for (; place > 0 && !text.empty(); --place) text.remove_prefix(first_character(text).size());
  return place < 0 || text.empty() ? missing() : Value(Json(std::string(first_character(text))));
}

std::string joined(std::string a, const std::string& b, int line) {
  append(a, b, line);
  return a;
}

bool is_less(const Json& a, const Json& b, int line) {
  const auto is_number = [](const Json& json) { return json.is_number() || json.is_boolean(); };
  if (a.is_string() && b.is_string()) return a.get_ref<const std::string&>() < b.get_ref<const std::string&>();
  if (is_number(a) && is_number(b)) return number_of(a) < number_of(b);
  if (!a.is_array() || !b.is_array()) refuse(line, "these values have no order");
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    if (!is_equal(a[i], b[i])) return is_less(a[i], b[i], line);
  return a.size() < b.size();
}

bool compare(const std::string& op, const Value& a, const Value& b, int line) {
  for (const Value* side : {&a, &b})
    if (!side->defined) refuse(line, concat("'", side->missing, "' is undefined"));
  if (op == "<") return is_less(a.json, b.json, line);
  if (op == ">") return is_less(b.json, a.json, line);
  return op == "<=" ? !is_less(b.json, a.json, line) : !is_less(a.json, b.json, line);
}

bool contains(const Value& all, const Value& one, int line) {
  if (all.json.is_string()) {
    const auto& text = all.json.get_ref<const std::string&>();
    return find_in(text, string_of(one, line, "what is looked for in a text")) != std::string_view::npos;
  }
  if (all.json.is_object()) return one.json.is_string() && all.json.contains(one.json.get<std::string>());
  for (const Json& item : items_of(all, line))
    if (one.defined && is_equal(item, one.json)) return true;
  return false;
}

Value arithmetic(const std::string& op, const Value& a, const Value& b, int line) {
  if (op == "+" && a.json.is_string() && b.json.is_string())
    return Json(joined(text_of(a, line), text_of(b, line), line));
  if (op == "+" && a.json.is_array() && b.json.is_array()) {
    Json out = a.json;
    for (const Json& item : b.json) out.push_back(item);
    return out;
  }
  if (op == "*" && a.json.is_string() && b.json.is_number_integer()) {
    std::string out;
    append_times(out, a.json.get_ref<const std::string&>(), b.json.get<int64_t>(), line);
    return Json(out);
  }
  const auto number = [](const Value& v) { return v.defined && (v.json.is_number() || v.json.is_boolean()); };
  if (!number(a) || !number(b)) {
    const Value& wrong = a.defined ? b : a;
    if (!wrong.defined) refuse(line, concat("'", wrong.missing, "' is undefined"));
    refuse(line, concat("'", op, "' is not defined between '", text_of(a, line).substr(0, 40), "' and '",
                        text_of(b, line).substr(0, 40), "'"));
  }
  const auto whole = [](const Value& v) { return !v.json.is_number_float(); };
  const auto real = [](const Value& v) {
    return v.json.is_boolean() ? double(v.json.get<bool>()) : v.json.get<double>();
  };
  const double x = real(a), y = real(b);
  if ((op == "/" || op == "//" || op == "%") && y == 0) refuse(line, "division by zero");
  double result = 0;
  if (op == "+")
    result = x + y;
  else if (op == "-")
    result = x - y;
  else if (op == "*")
    result = x * y;
  else if (op == "/")
    return Json(x / y);
  else if (op == "//")
    result = std::floor(x / y);
  else
    result = x - y * std::floor(x / y);
  if (whole(a) && whole(b)) {
    if (std::fabs(result) > 9e15) refuse(line, "a number is too large");
    return Json(int64_t(result));
  }
  return Json(result);
}

}  // namespace pleat::jinja
