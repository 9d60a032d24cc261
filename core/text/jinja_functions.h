#pragma once
// What templates can call: methods, filters, tests and functions.
#include <ctime>
#include <string>

#include "core/text/jinja_arguments.h"

namespace pleat::jinja {

// Error(invalid) naming the line and what is not known.
Value call_method(const Value& object, const std::string& name, const Arguments& arguments);
Value apply_filter(const Value& value, const std::string& name, const Arguments& arguments);
bool apply_test(const Value& value, const std::string& name, const Arguments& arguments);
bool is_function(const std::string& name);
// now: what strftime_now shows, in UTC.
Value call_function(const std::string& name, const Arguments& arguments, std::time_t now);

}  // namespace pleat::jinja
