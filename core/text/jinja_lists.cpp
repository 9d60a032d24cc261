#include "core/text/jinja_lists.h"

#include <algorithm>
#include <set>

#include "core/text/jinja_functions.h"
#include "core/text/jinja_lexer.h"
#include "core/text/jinja_operators.h"
#include "core/text/jinja_texts.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

// path: "a.0.b" or a whole number; none is the item itself. otherwise: of a step that leads nowhere, if it is defined.
Value attribute_of(const Value& item, const Value& path, const Value& otherwise, int line) {
  if (path.defined && path.json.is_null()) return item;
  const auto step = [&](const Value& from, const Value& key) {
    const Value out = index(from, key, line);
    return out.defined || !otherwise.defined ? out : otherwise;
  };
  if (path.json.is_number_integer()) return step(item, path);
  Value out = item;
  for (const Json& part : split(string_of(path, line, "an attribute"), Json("."), -1, line)) {
    const auto& name = part.get_ref<const std::string&>();
    const bool number = !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
    out = step(out, number ? Value(Json(whole_of(name, line).value_or(0))) : Value(part));
  }
  return out;
}

Json defined(const Value& value, int line) {
  if (!value.defined) refuse(line, concat("an item of the list has no '", value.missing, "'"));
  return value.json;
}

// What is compared: as Jinja does it, without regard to case if not told otherwise.
Json key_of(const Json& value, bool with_case) {
  return with_case || !value.is_string() ? value : Json(lower_case(value.get_ref<const std::string&>()));
}

// By the first of each pair; returns the second ones. Those that are equal stay in their order, reversed or not.
Json in_order(std::vector<std::pair<Json, Json>> items, bool reversed, const Arguments& a) {
  std::stable_sort(items.begin(), items.end(), [&](const auto& x, const auto& y) {
    a.steps->take(a.line);
    return reversed ? is_less(y.first, x.first, a.line) : is_less(x.first, y.first, a.line);
  });
  Json out = Json::array();
  for (auto& [_, item] : items) out.push_back(std::move(item));
  return out;
}

}  // namespace

Json pairs_of(const Value& object, int line) {
  if (!object.json.is_object()) refuse(line, concat("'", text_of(object, line).substr(0, 40), "' is no dictionary"));
  Json out = Json::array();
  for (const auto& [key, value] : object.json.items()) out.push_back(Json::array({key, value}));
  return out;
}

Json chosen(const Value& value, const std::string& name, const Arguments& a) {
  if (!is_true(value)) return Json::array();
  const bool by_attribute = name.ends_with("attr"), keep = name.starts_with("select");
  const size_t test = by_attribute ? 1 : 0;
  if (by_attribute && a.values.empty()) refuse(a.line, concat("'", name, "' needs an attribute"));
  if (!a.named.empty() && a.values.size() <= test)
    refuse(a.line, concat("unknown argument '", a.named.begin()->first, "' of '", name, "'"));
  const Arguments rest = a.from(test + 1);
  Json out = Json::array();
  for (const Json& item : items_of(value, a.line)) {
    a.steps->take(a.line);
    const Value subject = by_attribute ? attribute_of(item, a.values[0], Value::undefined(""), a.line) : Value(item);
    const bool holds = a.values.size() > test ? apply_test(subject, string_of(a.values[test], a.line, "a test"), rest)
                                              : is_true(subject);
    if (holds == keep) out.push_back(item);
  }
  return out;
}

Json mapped(const Value& value, const Arguments& a) {
  if (!is_true(value)) return Json::array();
  static constexpr Signature kAttribute[] = {{"map", "_ attribute default"}};
  const auto attribute = a.named.find("attribute");
  const bool by_attribute = a.values.empty() && attribute != a.named.end();
  if (a.values.empty() && !by_attribute) refuse(a.line, "'map' needs a filter or an attribute");
  if (by_attribute) check_arguments(kAttribute, "map", a);
  const Value otherwise = a.get(2, "default");
  const bool has_default = otherwise.defined && !otherwise.json.is_null();
  const Arguments rest = a.from(1);
  Json out = Json::array();
  for (const Json& item : items_of(value, a.line)) {
    const Value found =
        by_attribute ? attribute_of(item, attribute->second, has_default ? otherwise : Value::undefined(""), a.line)
                     : apply_filter(item, string_of(a.values[0], a.line, "a filter"), rest);
    out.push_back(defined(found, a.line));
    a.steps->take(a.line, size_of(found.json));
  }
  return out;
}

Json sorted(const Value& value, const Arguments& a) {
  const bool with_case = is_true(a.get(1, "case_sensitive", Json(false)));
  const Value attribute = a.get(2, "attribute");
  Json paths = Json::array({attribute.json});  // several, with commas between them, count one after the other
  if (attribute.json.is_string()) paths = split(attribute.json.get<std::string>(), Json(","), -1, a.line);
  std::vector<std::pair<Json, Json>> items;
  for (const Json& item : items_of(value, a.line)) {
    Json key = Json::array();
    for (const Json& path : paths)
      key.push_back(key_of(defined(attribute_of(item, path, Value::undefined(""), a.line), a.line), with_case));
    a.steps->take(a.line, size_of(key));
    items.emplace_back(std::move(key), item);
  }
  return in_order(std::move(items), is_true(a.get(0, "reverse", Json(false))), a);
}

Json sorted_pairs(const Value& value, const Arguments& a) {
  const bool with_case = is_true(a.get(0, "case_sensitive", Json(false)));
  const std::string by = string_of(a.get(1, "by", Json("key")), a.line, "what to sort by");
  if (by != "key" && by != "value") refuse(a.line, "dictsort sorts by 'key' or by 'value'");
  std::vector<std::pair<Json, Json>> items;
  for (const Json& pair : pairs_of(value, a.line)) items.emplace_back(key_of(pair[by == "value"], with_case), pair);
  return in_order(std::move(items), is_true(a.get(2, "reverse", Json(false))), a);
}

Json unique(const Value& value, const Arguments& a) {
  const bool with_case = is_true(a.get(0, "case_sensitive", Json(false)));
  const Value attribute = a.get(1, "attribute");
  Json out = Json::array();
  std::set<Json> seen;
  for (const Json& item : items_of(value, a.line)) {
    Json key = key_of(defined(attribute_of(item, attribute, Value::undefined(""), a.line), a.line), with_case);
    if (key.is_structured()) refuse(a.line, "'unique' takes no lists of lists or of dictionaries");
    if (key.is_boolean()) key = int(key.get<bool>());  // as in Python, true is 1
    a.steps->take(a.line, size_of(key));
    if (seen.insert(std::move(key)).second) out.push_back(item);
  }
  return out;
}

Value extreme(const Value& value, bool largest, const Arguments& a) {
  const bool with_case = is_true(a.get(0, "case_sensitive", Json(false)));
  const Value attribute = a.get(1, "attribute");
  const Json items = items_of(value, a.line);
  if (items.empty()) return Value::undefined(largest ? "max of nothing" : "min of nothing");
  const Json* best = nullptr;
  Json best_key;
  for (const Json& item : items) {
    Json key = key_of(defined(attribute_of(item, attribute, Value::undefined(""), a.line), a.line), with_case);
    a.steps->take(a.line, size_of(key));
    if (best && !(largest ? is_less(best_key, key, a.line) : is_less(key, best_key, a.line))) continue;
    best = &item;
    best_key = std::move(key);
  }
  return Json(*best);
}

Value sum(const Value& value, const Arguments& a) {
  const Value attribute = a.get(0, "attribute");
  Value total = a.get(1, "start", Json(0));
  if (total.json.is_string()) refuse(a.line, "'sum' adds no texts");
  for (const Json& item : items_of(value, a.line)) {
    a.steps->take(a.line, size_of(total.json));
    total = arithmetic("+", total, attribute_of(item, attribute, Value::undefined(""), a.line), a.line);
  }
  return total;
}

Json batches(const Value& value, const Arguments& a) {
  const int64_t length = integer_of(a.get(0, "linecount"), a.line, "the length of a batch");
  const Value filler = a.get(1, "fill_with");
  if (length < 1) refuse(a.line, "a batch has no items");
  Json out = Json::array();
  for (const Json& item : items_of(value, a.line)) {
    a.steps->take(a.line);
    if (out.empty() || int64_t(out.back().size()) == length) out.push_back(Json::array());
    out.back().push_back(item);
  }
  if (out.empty() || filler.json.is_null()) return out;
  const int64_t more = length - int64_t(out.back().size());
  a.steps->take(a.line, more);
  for (int64_t i = 0; i < more; ++i) {
    a.steps->take(a.line, size_of(filler.json));
    out.back().push_back(filler.json);
  }
  return out;
}

std::string joined_items(const Value& value, const Arguments& a) {
  const std::string between = text_of(a.get(0, "d", Json("")), a.line);
  const Value attribute = a.get(1, "attribute");
  std::string out;
  bool first = true;
  for (const Json& item : items_of(value, a.line)) {
    a.steps->take(a.line);
    if (!first) append(out, between, a.line);
    append(out, text_of(attribute_of(item, attribute, Value::undefined(""), a.line), a.line), a.line);
    first = false;
  }
  return out;
}

}  // namespace pleat::jinja
