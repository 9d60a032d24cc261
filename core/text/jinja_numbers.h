#pragma once
// The filters that give numbers.
#include "core/text/jinja_arguments.h"

namespace pleat::jinja {

Value to_integer(const Value& value, const Arguments& arguments);
Value to_float(const Value& value, const Arguments& arguments);
Value rounded(const Value& value, const Arguments& arguments);

}  // namespace pleat::jinja
