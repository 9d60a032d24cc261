#pragma once
// '...' % values, as Python does it: d i u o x X e E f F g G c s r, with flags, width and precision. Error(invalid)
// naming the line.
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja_bounds.h"
#include "core/text/jinja_value.h"

namespace pleat::jinja {

std::string formatted(std::string_view format, const std::vector<Value>& tuple, Steps& steps, int line);
std::string formatted(std::string_view format, const std::map<std::string, Value>& named, Steps& steps, int line);
std::string formatted(std::string_view format, const Value& one, Steps& steps, int line);  // no tuple

}  // namespace pleat::jinja
