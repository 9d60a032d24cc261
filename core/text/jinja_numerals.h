#pragma once
// Numbers as '%5d' % value and its like write them.
#include <cstdint>
#include <optional>
#include <string>

#include "core/text/jinja_value.h"

namespace pleat::jinja {

// What a % stands for: %+05.1f.
struct Place {
  bool left = false, plus = false, space = false, alternate = false, zeros = false;
  std::optional<int64_t> width, precision;
  char type = 0;
};

struct Numeral {
  std::string sign, digits;  // 0x belongs to the sign
};
// For d i u o x X e E f F g G. Error(invalid) naming the line where the value is no such number.
Numeral numeral_of(const Place& place, const Value& value, int line);

}  // namespace pleat::jinja
