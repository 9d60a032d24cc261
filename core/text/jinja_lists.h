#pragma once
// The filters over lists and dictionaries.
#include <string>

#include "core/text/jinja_arguments.h"

namespace pleat::jinja {

Json pairs_of(const Value& object, int line);  // [[key, value], ...]; Error(invalid) where it is no dictionary
Json chosen(const Value& value, const std::string& name, const Arguments& arguments);  // select, rejectattr, ...
Json mapped(const Value& value, const Arguments& arguments);
Json sorted(const Value& value, const Arguments& arguments);
Json sorted_pairs(const Value& value, const Arguments& arguments);  // dictsort
Json unique(const Value& value, const Arguments& arguments);
Value extreme(const Value& value, bool largest, const Arguments& arguments);  // min, max
Value sum(const Value& value, const Arguments& arguments);
Json batches(const Value& value, const Arguments& arguments);  // lists of a length
std::string joined_items(const Value& value, const Arguments& arguments);

}  // namespace pleat::jinja
