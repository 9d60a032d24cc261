#include "core/text/jinja_functions.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <string_view>

#include "core/text/jinja_lexer.h"
#include "core/text/jinja_operators.h"
#include "core/text/jinja_texts.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

constexpr int64_t kLongestRange = 100000;

Json pairs_of(const Json& object) {
  Json out = Json::array();
  for (const auto& [key, value] : object.items()) out.push_back(Json::array({key, value}));
  return out;
}

Value attribute_of(const Value& item, const std::string& path) {
  Value out = item;
  for (const Json& step : split(path, Json("."), -1, 0)) {
    const std::string& key = step.get_ref<const std::string&>();
    if (!out.json.is_object() || !out.json.contains(key)) return Value::undefined(path);
    out = Json(out.json[key]);
  }
  return out;
}

// selectattr, rejectattr, select, reject.
Json chosen(const Value& value, const std::string& name, const Arguments& a) {
  const bool by_attribute = name.ends_with("attr"), keep = name.starts_with("select");
  Json out = Json::array();
  for (const Json& item : items_of(value, a.line)) {
    const Value subject =
        by_attribute ? attribute_of(item, string_of(a.get(0, "attribute"), a.line, "an attribute")) : Value(item);
    const size_t test = by_attribute ? 1 : 0;
    Arguments rest;
    rest.line = a.line;
    if (a.values.size() > test + 1) rest.values.assign(a.values.begin() + long(test) + 1, a.values.end());
    const bool holds = a.values.size() > test ? apply_test(subject, string_of(a.values[test], a.line, "a test"), rest)
                                              : is_true(subject);
    if (holds == keep) out.push_back(item);
  }
  return out;
}

Json mapped(const Value& value, const Arguments& a) {
  Json out = Json::array();
  const auto attribute = a.named.find("attribute");
  for (const Json& item : items_of(value, a.line)) {
    if (attribute != a.named.end()) {
      const Value found = attribute_of(item, string_of(attribute->second, a.line, "an attribute"));
      out.push_back(found.defined ? found.json : a.get(9, "default").json);
      continue;
    }
    Arguments rest;
    rest.line = a.line;
    if (a.values.size() > 1) rest.values.assign(a.values.begin() + 1, a.values.end());
    out.push_back(apply_filter(item, string_of(a.get(0, ""), a.line, "a filter"), rest).json);
  }
  return out;
}

std::string indented(const std::string& text, const Arguments& a) {
  const Value width = a.get(0, "width", Json(4));
  const std::string margin =
      width.json.is_string()
          ? width.json.get<std::string>()
          : std::string(size_t(std::clamp<int64_t>(integer_of(width, a.line, "a width"), 0, 1000)), ' ');
  const bool first = is_true(a.get(1, "first", Json(false))), blank = is_true(a.get(2, "blank", Json(false)));
  std::string out;
  bool is_first = true;
  for (const Json& line : split(text, Json("\n"), -1, a.line)) {
    const std::string& content = line.get_ref<const std::string&>();
    if (!is_first) out += '\n';
    if ((is_first ? first : true) && (blank || is_first || !content.empty())) out += margin;
    out += content;
    is_first = false;
  }
  return out;
}

Value to_integer(const Value& value, const Arguments& a) {
  if (value.json.is_number_integer()) return value;
  if (value.json.is_number_float()) return Json(int64_t(std::clamp(value.json.get<double>(), -1e15, 1e15)));
  if (value.json.is_boolean()) return Json(int64_t(value.json.get<bool>()));
  const std::string text = value.json.is_string() ? value.json.get<std::string>() : "";
  char* end = nullptr;
  const long long number = std::strtoll(text.c_str(), &end, 10);
  return text.empty() || *end ? a.get(0, "default", Json(0)) : Value(Json(int64_t(number)));
}

}  // namespace

Value Arguments::get(size_t place, const char* name, const Value& otherwise) const {
  if (place < values.size()) return values[place];
  const auto found = named.find(name);
  return found == named.end() ? otherwise : found->second;
}

Value call_method(const Value& object, const std::string& name, const Arguments& a) {
  if (!object.defined) refuse(a.line, concat("'", object.missing, "' is undefined"));
  if (object.json.is_string()) return string_method(object.json.get<std::string>(), name, a);
  if (object.json.is_object()) {
    if (name == "items") return pairs_of(object.json);
    if (name == "keys" || name == "values") {
      Json out = Json::array();
      for (const auto& [key, value] : object.json.items()) out.push_back(name == "keys" ? Json(key) : value);
      return out;
    }
    if (name == "get") {
      const Value key = a.get(0, "key");
      const bool found = key.json.is_string() && object.json.contains(key.json.get<std::string>());
      return found ? Value(object.json[key.json.get<std::string>()]) : a.get(1, "default");
    }
  }
  refuse(a.line, concat("unknown method '", name, "' of '", text_of(object).substr(0, 40), "'"));
}

Value apply_filter(const Value& value, const std::string& name, const Arguments& a) {
  const auto text = [&]() { return text_of(value); };
  if (name == "default" || name == "d") {
    const bool also_false = is_true(a.get(1, "boolean", Json(false)));
    return !value.defined || (also_false && !is_true(value)) ? a.get(0, "default_value", Json("")) : value;
  }
  if (name == "tojson") {
    if (!value.defined) refuse(a.line, concat("'", value.missing, "' is undefined"));
    if (!a.values.empty()) refuse(a.line, "tojson takes no argument without a name");
    for (const auto& [keyword, _] : a.named)
      if (keyword != "indent") refuse(a.line, concat("unknown argument '", keyword, "' of tojson"));
    const Value indent = a.get(9, "indent");
    return Json(to_json_text(value.json, indent.json.is_number_integer()
                                             ? int(std::clamp<int64_t>(indent.json.get<int64_t>(), 0, 100))
                                             : -1));
  }
  if (name == "trim")
    return Json(stripped(text(), a.values.empty() ? " \t\n\r\f\v" : text_of(a.values[0]), true, true));
  if (name == "upper") return Json(changed_case(text(), std::toupper));
  if (name == "lower") return Json(changed_case(text(), std::tolower));
  if (name == "title") return Json(titled_words(text()));
  if (name == "capitalize") return Json(capitalized(text()));
  if (name == "string") return Json(text());
  if (name == "safe" || name == "e" || name == "escape") {
    if (name != "safe") refuse(a.line, concat("unknown filter '", name, "'"));
    return value;
  }
  if (name == "replace") return Json(replaced(text(), text_of(a.get(0, "old")), text_of(a.get(1, "new"))));
  if (name == "indent") return Json(indented(text(), a));
  if (name == "length" || name == "count") {
    if (value.json.is_string()) return Json(character_count(value.json.get<std::string>()));
    return Json(int64_t(items_of(value, a.line).size()));
  }
  if (name == "int") return to_integer(value, a);
  if (name == "float")
    return Json(value.json.is_number() ? value.json.get<double>() : std::strtod(text().c_str(), nullptr));
  if (name == "abs" && value.json.is_number_integer()) return Json(std::abs(value.json.get<int64_t>()));
  if (name == "items") return value.defined ? pairs_of(value.json) : Json::array();
  if (name == "dictsort") {
    Json pairs = pairs_of(value.json);
    std::stable_sort(pairs.begin(), pairs.end(), [](const Json& x, const Json& y) {
      return changed_case(x[0].get<std::string>(), std::tolower) < changed_case(y[0].get<std::string>(), std::tolower);
    });
    return pairs;
  }
  if (name == "selectattr" || name == "rejectattr" || name == "select" || name == "reject")
    return chosen(value, name, a);
  if (name == "map") return mapped(value, a);
  if (name == "join") {
    std::string out;
    const std::string between = text_of(a.get(0, "d", Json("")));
    const Value attribute = a.get(1, "attribute");
    bool first = true;
    for (const Json& item : items_of(value, a.line)) {
      if (!first) out += between;
      if (out.size() > kMostOutput) refuse(a.line, "the text becomes too long");
      out += text_of(attribute.json.is_string() ? attribute_of(item, attribute.json.get<std::string>()) : Value(item));
      first = false;
    }
    return Json(out);
  }
  const auto items = [&] { return items_of(value, a.line); };
  if (name == "list") return items();
  if (name == "first" || name == "last") {
    const Json all = items();
    if (all.empty()) return Value::undefined(name + " of nothing");
    return name == "first" ? all.front() : all.back();
  }
  if (name == "reverse") {
    Json all = items();
    std::reverse(all.begin(), all.end());
    if (!value.json.is_string()) return all;
    std::string out;
    for (const Json& c : all) out += c.get<std::string>();
    return Json(out);
  }
  if (name == "unique") {
    Json out = Json::array();
    for (const Json& item : items())
      if (std::find(out.begin(), out.end(), item) == out.end()) out.push_back(item);
    return out;
  }
  if (name == "sort") {
    Json all = items();
    std::stable_sort(all.begin(), all.end());
    return all;
  }
  refuse(a.line, concat("unknown filter '", name, "'"));
}

bool apply_test(const Value& value, const std::string& name, const Arguments& a) {
  const Json& json = value.json;
  if (name == "defined") return value.defined;
  if (name == "undefined") return !value.defined;
  if (name == "none") return value.defined && json.is_null() && !value.space;
  if (name == "string") return json.is_string();
  if (name == "mapping") return json.is_object();
  if (name == "iterable") return !value.defined || json.is_structured() || json.is_string();
  if (name == "sequence") return json.is_structured() || json.is_string();
  if (name == "number") return json.is_number() || json.is_boolean();
  if (name == "integer") return json.is_number_integer();
  if (name == "float") return json.is_number_float();
  if (name == "boolean") return json.is_boolean();
  if (name == "true") return json == true;
  if (name == "false") return json == false;
  if (name == "odd" || name == "even") return (integer_of(value, a.line, "the value") % 2 != 0) == (name == "odd");
  if (name == "divisibleby") {
    const int64_t by = integer_of(a.get(0, "num"), a.line, "the divisor");
    if (by == 0) refuse(a.line, "division by zero");
    return integer_of(value, a.line, "the value") % by == 0;
  }
  if (name == "equalto" || name == "eq" || name == "sameas") return is_equal(value, a.get(0, "other"));
  if (name == "ne") return !is_equal(value, a.get(0, "other"));
  if (name == "in") {
    const Json items = items_of(a.get(0, "seq"), a.line);
    return std::find(items.begin(), items.end(), json) != items.end();
  }
  if (name == "lower" || name == "upper") return json.is_string() && apply_filter(value, name, a).json == json;
  refuse(a.line, concat("unknown test '", name, "'"));
}

bool is_function(const std::string& name) {
  constexpr std::array<std::string_view, 5> names = {"raise_exception", "strftime_now", "range", "namespace", "dict"};
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value call_function(const std::string& name, const Arguments& a, std::time_t now) {
  if (name == "raise_exception") throw Error(ErrorKind::invalid, text_of(a.get(0, "message")));
  if (name == "strftime_now") {
    const std::string format = string_of(a.get(0, "format"), a.line, "a format");
    std::tm parts = {};
    if (!gmtime_r(&now, &parts)) refuse(a.line, "the time has no date");
    char buffer[256];
    return Json(std::string(buffer, std::strftime(buffer, sizeof(buffer), format.c_str(), &parts)));
  }
  if (name == "range") {
    const int64_t one = integer_of(a.get(0, ""), a.line, "a bound"),
                  step = integer_of(a.get(2, "", Json(1)), a.line, "a step");
    const bool both = a.values.size() > 1;
    const int64_t begin = both ? one : 0, end = both ? integer_of(a.values[1], a.line, "a bound") : one;
    if (step == 0) refuse(a.line, "the step of a range is zero");
    for (const int64_t number : {begin, end, step})
      if (std::abs(number / 2) > int64_t(1) << 50) refuse(a.line, "a number is too large");
    Json out = Json::array();
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
      if (int64_t(out.size()) >= kLongestRange) refuse(a.line, "a range is too long");
      out.push_back(i);
    }
    return out;
  }
  if (name == "namespace" || name == "dict") {
    Value value;
    if (name == "namespace") {
      value.space = std::make_shared<std::map<std::string, Value>>(a.named);
      return value;
    }
    value.json = Json::object();
    for (const auto& [key, item] : a.named) value.json[key] = item.json;
    return value;
  }
  refuse(a.line, concat("unknown function '", name, "'"));
}

}  // namespace pleat::jinja
