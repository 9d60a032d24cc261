#pragma once
// What templates can call: methods, filters, tests and functions.
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "core/text/jinja_value.h"

namespace pleat::jinja {

struct Arguments {
  std::vector<Value> values;  // by place
  std::map<std::string, Value> named;
  int line = 0;
  // The argument at `place` or of that name, or `otherwise`.
  Value get(size_t place, const char* name, const Value& otherwise = {}) const;
};

// Error(invalid) naming the line and what is not known.
Value call_method(const Value& object, const std::string& name, const Arguments& arguments);
Value apply_filter(const Value& value, const std::string& name, const Arguments& arguments);
bool apply_test(const Value& value, const std::string& name, const Arguments& arguments);
bool is_function(const std::string& name);
// now: what strftime_now shows, in UTC.
Value call_function(const std::string& name, const Arguments& arguments, std::time_t now);

}  // namespace pleat::jinja
