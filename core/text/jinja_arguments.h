#pragma once
// What a template hands to what it calls.
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja_bounds.h"
#include "core/text/jinja_value.h"

namespace pleat::jinja {

struct Arguments {
  std::vector<Value> values;  // by place
  std::map<std::string, Value> named;
  int line = 0;
  Steps* steps = nullptr;  // what is left of the template's
  // The argument at `place` or of that name, or `otherwise`.
  Value get(size_t place, std::string_view name, const Value& otherwise = {}) const;
  // Those from `place` on, for what is called in turn.
  Arguments from(size_t place) const;
};

// The names of what can be passed, in their order: with ! what must be, "_" what has no name, "*" anything.
struct Signature {
  std::string_view name, parameters;
};
// False where no signature has the name. Error(invalid) where the arguments do not fit: none is ignored.
bool check_arguments(std::span<const Signature> signatures, std::string_view name, const Arguments& arguments);

}  // namespace pleat::jinja
