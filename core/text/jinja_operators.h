#pragma once
// What the signs of an expression do to values. Error(invalid) naming the line.
#include "core/text/jinja_value.h"

namespace pleat::jinja {

Json items_of(const Value& value, int line);  // what a loop goes through; nothing for an undefined value
Value attribute(const Value& object, const std::string& name, int line);
Value index(const Value& object, const Value& key, int line);
std::string joined(std::string a, const std::string& b, int line);
bool contains(const Value& all, const Value& one, int line);
bool is_less(const Json& a, const Json& b, int line);                               // numbers, texts, or lists of these
bool compare(const std::string& op, const Value& a, const Value& b, int line);      // < > <= >=
Value arithmetic(const std::string& op, const Value& a, const Value& b, int line);  // + - * / // %

}  // namespace pleat::jinja
