#pragma once
// Values of a template, with Python's ideas of truth, equality and text.
#include <map>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

namespace pleat::jinja {

using Json = nlohmann::ordered_json;

struct Macro;

struct Value {
  Json json;
  bool defined = true;
  std::string missing;                                  // what an undefined value was called
  std::shared_ptr<std::map<std::string, Value>> space;  // of a namespace()
  std::shared_ptr<const Macro> macro;                   // the text of such a value is what it prints
  bool loop = false;                                    // what a loop says of itself

  Value() = default;
  Value(Json value) : json(std::move(value)) {}  // NOLINT: a value is JSON
  static Value undefined(std::string name) {
    Value value;
    value.defined = false;
    value.missing = std::move(name);
    return value;
  }
};

bool is_true(const Value& value);
int64_t size_of(const Json& json);  // parts, and 64 bytes of text as one
bool is_equal(const Json& a, const Json& b);
bool is_equal(const Value& a, const Value& b);
// As {{ }} prints it: an undefined value is nothing. Error(invalid) naming the line where the text becomes too long.
std::string text_of(const Value& value, int line);
std::string repr_of(const Value& value, int line);  // as inside of a list
struct JsonStyle {
  int64_t indent = -1;  // < 0: on one line
  bool ascii = false, sorted = false;
  std::string between = ", ", colon = ": ";
};
// As Python's json.dumps writes it. Error(invalid) likewise.
std::string to_json_text(const Json& json, const JsonStyle& style, int line);

}  // namespace pleat::jinja
