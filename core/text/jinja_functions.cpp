#include "core/text/jinja_functions.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <string_view>

#include "core/text/jinja_characters.h"
#include "core/text/jinja_format.h"
#include "core/text/jinja_lexer.h"
#include "core/text/jinja_lists.h"
#include "core/text/jinja_numbers.h"
#include "core/text/jinja_operators.h"
#include "core/text/jinja_texts.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

constexpr int64_t kLongestRange = 100000;

// transformers' filter.
Value to_json(const Value& value, const Arguments& a) {
  if (value.space || value.macro) refuse(a.line, "tojson takes no namespace and no macro");
  JsonStyle style;
  style.ascii = is_true(a.get(0, "ensure_ascii", Json(false)));
  style.sorted = is_true(a.get(3, "sort_keys", Json(false)));
  if (const Value indent = a.get(1, "indent"); !indent.defined || !indent.json.is_null()) {
    style.indent = std::max<int64_t>(0, integer_of(indent, a.line, "the indent of tojson"));
    if (style.indent > int64_t(kMostOutput)) refuse(a.line, "the text becomes too long");
    style.between = ",";
  }
  if (const Value two = a.get(2, "separators"); !two.defined || !two.json.is_null()) {
    if (!two.json.is_array() || two.json.size() != 2 || !two.json[0].is_string() || !two.json[1].is_string())
      refuse(a.line, "the separators of tojson are not two texts");
    style.between = two.json[0];
    style.colon = two.json[1];
  }
  return Json(to_json_text(value.json, style, a.line));
}

// Of the values, the one whose turn it is.
Value cycled(const Value& loop, const Arguments& a) {
  if (a.values.empty() || !a.named.empty()) refuse(a.line, "'cycle' takes one value or more, without names");
  return a.values[loop.json["index0"].get<size_t>() % a.values.size()];
}

}  // namespace

Value call_method(const Value& object, const std::string& name, const Arguments& a) {
  if (!object.defined) refuse(a.line, concat("'", object.missing, "' is undefined"));
  if (object.loop && name == "cycle") return cycled(object, a);
  if (object.json.is_string() && !object.macro) return string_method(object.json.get<std::string>(), name, a);
  static constexpr Signature kMethods[] = {{"items", ""}, {"keys", ""}, {"values", ""}, {"get", "_! _"}};
  if (!object.json.is_object() || !check_arguments(kMethods, name, a))
    refuse(a.line, concat("unknown method '", name, "' of '", text_of(object, a.line).substr(0, 40), "'"));
  if (name == "items") return pairs_of(object, a.line);
  if (name == "get") {
    const Value key = a.get(0, "_");
    const bool found = key.json.is_string() && object.json.contains(key.json.get<std::string>());
    return found ? Value(object.json[key.json.get<std::string>()]) : a.get(1, "_");
  }
  Json out = Json::array();
  for (const auto& [key, value] : object.json.items()) out.push_back(name == "keys" ? Json(key) : value);
  return out;
}

Value apply_filter(const Value& value, const std::string& name, const Arguments& a) {
  static constexpr Signature kFilters[] = {{"default", "default_value boolean"},
                                           {"d", "default_value boolean"},
                                           {"tojson", "ensure_ascii indent separators sort_keys"},
                                           {"trim", "chars"},
                                           {"upper", ""},
                                           {"lower", ""},
                                           {"title", ""},
                                           {"capitalize", ""},
                                           {"string", ""},
                                           {"safe", ""},
                                           {"replace", "old! new! count"},
                                           {"indent", "width first blank"},
                                           {"format", "*"},
                                           {"length", ""},
                                           {"count", ""},
                                           {"int", "default"},
                                           {"float", "default"},
                                           {"abs", ""},
                                           {"items", ""},
                                           {"dictsort", "case_sensitive by reverse"},
                                           {"select", "*"},
                                           {"reject", "*"},
                                           {"selectattr", "*"},
                                           {"rejectattr", "*"},
                                           {"map", "*"},
                                           {"join", "d attribute"},
                                           {"list", ""},
                                           {"first", ""},
                                           {"last", ""},
                                           {"reverse", ""},
                                           {"unique", "case_sensitive attribute"},
                                           {"sort", "reverse case_sensitive attribute"},
                                           {"min", "case_sensitive attribute"},
                                           {"max", "case_sensitive attribute"},
                                           {"sum", "attribute start"},
                                           {"batch", "linecount! fill_with"},
                                           {"round", "precision method"},
                                           {"center", "width"},
                                           {"wordcount", ""}};
  if (!check_arguments(kFilters, name, a)) refuse(a.line, concat("unknown filter '", name, "'"));
  const auto text = [&] { return text_of(value, a.line); };
  const auto items = [&] {
    Json out = items_of(value, a.line);
    a.steps->take(a.line, int64_t(out.size()));
    return out;
  };
  const auto require_defined = [&] {
    if (!value.defined) refuse(a.line, concat("'", value.missing, "' is undefined"));
  };
  if (name == "default" || name == "d") {
    const bool also_false = is_true(a.get(1, "boolean", Json(false)));
    return !value.defined || (also_false && !is_true(value)) ? a.get(0, "default_value", Json("")) : value;
  }
  if (name == "trim") return Json(stripped(text(), a.get(0, "chars"), true, true, a));
  if (name == "upper") return Json(upper_case(text()));
  if (name == "lower") return Json(lower_case(text()));
  if (name == "title") return Json(titled_words(text()));
  if (name == "capitalize") return Json(capitalized(text()));
  if (name == "string") return Json(text());
  if (name == "safe") return value;
  if (name == "replace") {
    const Value count = a.get(2, "count");
    const bool every = count.defined && count.json.is_null();
    return Json(replaced(text(), text_of(a.get(0, "old"), a.line), text_of(a.get(1, "new"), a.line),
                         every ? -1 : integer_of(count, a.line, "a count"), a.line));
  }
  if (name == "format") {
    if (!a.values.empty() && !a.named.empty()) refuse(a.line, "'format' takes values with names or without, not both");
    return Json(a.named.empty() ? formatted(text(), a.values, *a.steps, a.line)
                                : formatted(text(), a.named, *a.steps, a.line));
  }
  if (name == "length" || name == "count") {
    if (value.json.is_string()) return Json(character_count(value.json.get_ref<const std::string&>()));
    return Json(int64_t(value.json.is_structured() ? value.json.size() : items().size()));
  }
  if (name == "dictsort") return sorted_pairs(value, a);
  if (name == "select" || name == "reject" || name.ends_with("attr")) return chosen(value, name, a);
  if (name == "map") return mapped(value, a);
  if (name == "join") return Json(joined_items(value, a));
  if (name == "list") return items();
  if (name == "first" || name == "last") {
    const Json all = items();
    if (all.empty()) return Value::undefined(name + " of nothing");
    return name == "first" ? all.front() : all.back();
  }
  if (name == "unique") return unique(value, a);
  if (name == "min" || name == "max") return extreme(value, name == "max", a);
  if (name == "sum") return sum(value, a);
  if (name == "batch") return batches(value, a);
  if (name == "center")
    return Json(centered(text(), integer_of(a.get(0, "width", Json(80)), a.line, "a width"), a.line));
  if (name == "wordcount") return Json(word_count(text()));
  if (name == "sort") return sorted(value, a);
  if (name == "items") return value.defined ? pairs_of(value, a.line) : Json::array();
  if (name == "reverse") {
    Json all = items();
    std::reverse(all.begin(), all.end());
    if (!value.json.is_string()) return all;
    std::string out;
    for (const Json& c : all) out += c.get<std::string>();
    return Json(out);
  }
  require_defined();
  if (name == "tojson") return to_json(value, a);
  if (name == "indent") return Json(indented(string_of(value, a.line, "what is indented"), a));
  if (name == "int") return to_integer(value, a);
  if (name == "float") return to_float(value, a);
  if (name == "round") return rounded(value, a);
  if (value.json.is_number_float()) return Json(std::fabs(value.json.get<double>()));
  return Json(std::abs(integer_of(value, a.line, "the value")));
}

bool apply_test(const Value& value, const std::string& name, const Arguments& a) {
  static constexpr Signature kTests[] = {
      {"defined", ""},   {"undefined", ""}, {"none", ""},     {"string", ""},
      {"mapping", ""},   {"iterable", ""},  {"sequence", ""}, {"number", ""},
      {"integer", ""},   {"float", ""},     {"boolean", ""},  {"true", ""},
      {"false", ""},     {"odd", ""},       {"even", ""},     {"divisibleby", "num!"},
      {"equalto", "_!"}, {"eq", "_!"},      {"==", "_!"},     {"sameas", "other!"},
      {"ne", "_!"},      {"!=", "_!"},      {"in", "seq!"},   {"lower", ""},
      {"upper", ""}};
  if (!check_arguments(kTests, name, a)) refuse(a.line, concat("unknown test '", name, "'"));
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
  if (name == "in") return contains(a.get(0, "seq"), value, a.line);
  if (name == "lower" || name == "upper") return json.is_string() && apply_filter(value, name, a).json == json;
  const bool equal = is_equal(value, a.get(0, "other"));
  return name == "ne" || name == "!=" ? !equal : equal;
}

bool is_function(const std::string& name) {
  constexpr std::array<std::string_view, 5> names = {"raise_exception", "strftime_now", "range", "namespace", "dict"};
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value call_function(const std::string& name, const Arguments& a, std::time_t now) {
  static constexpr Signature kFunctions[] = {{"raise_exception", "message!"},
                                             {"strftime_now", "format!"},
                                             {"range", "_! _ _"},
                                             {"namespace", "*"},
                                             {"dict", "*"}};
  if (!check_arguments(kFunctions, name, a)) refuse(a.line, concat("unknown function '", name, "'"));
  if (name == "raise_exception") throw Error(ErrorKind::invalid, text_of(a.get(0, "message"), a.line));
  if (name == "strftime_now") {
    const std::string format = string_of(a.get(0, "format"), a.line, "a format");
    std::tm parts = {};
    if (!gmtime_r(&now, &parts)) refuse(a.line, "the time has no date");
    char buffer[256];
    const size_t length = std::strftime(buffer, sizeof(buffer), format.c_str(), &parts);
    if (length == 0 && !format.empty()) refuse(a.line, "the text of a date is too long");
    return Json(std::string(buffer, length));
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
  // namespace, dict: a dictionary, and what is named on top of it.
  if (a.values.size() > 1 || (a.values.size() == 1 && !a.values[0].json.is_object()))
    refuse(a.line, concat("'", name, "' takes one dictionary, and values with names"));
  Json all = a.values.empty() ? Json::object() : a.values[0].json;
  Value value;
  if (name == "dict") {
    for (const auto& [key, item] : a.named) all[key] = item.json;
    return all;
  }
  value.space = std::make_shared<std::map<std::string, Value>>(a.named);
  for (const auto& [key, item] : all.items()) value.space->emplace(key, item);
  return value;
}

}  // namespace pleat::jinja
