#include "core/text/jinja_operators.h"

#include <cmath>

#include "core/text/jinja_lexer.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

constexpr int64_t kMostRepeats = 1'000'000;

}  // namespace

Json items_of(const Value& value, int line) {
  if (!value.defined) return Json::array();
  if (value.json.is_array()) return value.json;
  Json out = Json::array();
  if (value.json.is_object()) {
    for (const auto& [key, _] : value.json.items()) out.push_back(key);
  } else if (value.json.is_string()) {
    for (const std::string& c : characters_of(value.json.get<std::string>())) out.push_back(c);
  } else {
    refuse(line, concat("'", text_of(value), "' is not a list"));
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
  if (!key.json.is_number_integer()) return Value::undefined(text_of(key));
  if (!object.json.is_array() && !object.json.is_string()) return Value::undefined(text_of(key));
  if (object.json.is_array()) {  // without copying the others
    const int64_t length = int64_t(object.json.size()), at = key.json.get<int64_t>();
    const int64_t from_begin = at < 0 ? at + length : at;
    if (from_begin < 0 || from_begin >= length) return Value::undefined(concat("item ", text_of(key)));
    return Json(object.json[size_t(from_begin)]);
  }
  const Json items = items_of(object, line);
  int64_t place = key.json.get<int64_t>();
  if (place < 0) place += int64_t(items.size());
  if (place < 0 || place >= int64_t(items.size())) return Value::undefined(concat("item ", text_of(key)));
  return Json(items[size_t(place)]);
}

std::string joined(const std::string& a, const std::string& b, int line) {
  if (a.size() + b.size() > kMostOutput) refuse(line, "the text becomes too long");
  return a + b;
}

bool compare(const std::string& op, const Value& a, const Value& b, int line) {
  const bool numbers = a.json.is_number() && b.json.is_number(), texts = a.json.is_string() && b.json.is_string();
  if (!a.defined || !b.defined || !(numbers || texts)) refuse(line, concat("'", op, "' cannot compare these"));
  if (op == "<") return a.json < b.json;
  if (op == ">") return b.json < a.json;
  return op == "<=" ? !(b.json < a.json) : !(a.json < b.json);
}

bool contains(const Value& all, const Value& one, int line) {
  if (!all.defined) refuse(line, concat("'", all.missing, "' is undefined"));
  if (all.json.is_string() && one.json.is_string())
    return all.json.get_ref<const std::string&>().find(one.json.get<std::string>()) != std::string::npos;
  if (all.json.is_object()) return one.json.is_string() && all.json.contains(one.json.get<std::string>());
  for (const Json& item : items_of(all, line))
    if (is_equal(Value(item), one)) return true;
  return false;
}

Value arithmetic(const std::string& op, const Value& a, const Value& b, int line) {
  if (op == "+" && a.json.is_string() && b.json.is_string()) return Json(joined(text_of(a), text_of(b), line));
  if (op == "+" && a.json.is_array() && b.json.is_array()) {
    Json out = a.json;
    for (const Json& item : b.json) out.push_back(item);
    return out;
  }
  if (op == "*" && a.json.is_string() && b.json.is_number_integer()) {
    std::string out;
    for (int64_t i = 0; i < b.json.get<int64_t>(); ++i) {
      out += a.json.get<std::string>();
      if (i > kMostRepeats || out.size() > kMostOutput) refuse(line, "the text becomes too long");
    }
    return Json(out);
  }
  const auto number = [](const Value& v) { return v.defined && (v.json.is_number() || v.json.is_boolean()); };
  if (!number(a) || !number(b)) {
    const Value& wrong = a.defined ? b : a;
    if (!wrong.defined) refuse(line, concat("'", wrong.missing, "' is undefined"));
    refuse(line, concat("'", op, "' is not defined between '", text_of(a).substr(0, 40), "' and '",
                        text_of(b).substr(0, 40), "'"));
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
