#include "core/text/jinja_numerals.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "core/text/jinja_lexer.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

constexpr int64_t kMostDigits = 1000;  // that a precision may ask for

int64_t precision_of(const Place& place, int64_t otherwise, int line) {
  const int64_t out = place.precision.value_or(otherwise);
  if (out > kMostDigits) refuse(line, "a number has too many digits");
  return out;
}

Json plain_number(const Value& value, int line) {
  if (!value.defined || value.space || !(value.json.is_number() || value.json.is_boolean()))
    refuse(line, concat("'", text_of(value, line).substr(0, 40), "' is no number for a text with %"));
  return value.json.is_boolean() ? Json(int64_t(value.json.get<bool>())) : value.json;
}

std::string in_base(int base, const Json& whole) {
  const bool negative = !whole.is_number_unsigned() && whole.get<int64_t>() < 0;
  const uint64_t size = negative ? 0 - uint64_t(whole.get<int64_t>()) : whole.get<uint64_t>();
  char buffer[64];
  return (negative ? "-" : "") + std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), size, base).ptr);
}

std::string whole_digits(const Place& place, Json number, int line) {
  const int base = place.type == 'o' ? 8 : place.type == 'x' || place.type == 'X' ? 16 : 10;
  if (number.is_number_float()) {
    if (base != 10) refuse(line, concat("'%", place.type, "' needs a whole number"));
    if (!(std::fabs(number.get<double>()) < 9e18)) refuse(line, "a number is too large");
    number = int64_t(number.get<double>());
  }
  std::string out = in_base(base, number);
  for (char& c : out)
    if (place.type == 'X' && c >= 'a') c = char(c - 'a' + 'A');
  return out;
}

std::string real_digits(const Place& place, double number, int line) {
  if (std::isnan(number)) return place.type < 'a' ? "NAN" : "nan";  // which has no sign
  const std::string format = concat(place.alternate ? "%#.*" : "%.*", place.type);
  char buffer[kMostDigits + 400];  // the largest number has 309 digits in front of the point
  const int length = std::snprintf(buffer, sizeof(buffer), format.c_str(), int(precision_of(place, 6, line)), number);
  return {buffer, size_t(length)};
}

}  // namespace

Numeral numeral_of(const Place& place, const Value& value, int line) {
  const Json number = plain_number(value, line);
  const bool real = std::string_view("eEfFgG").find(place.type) != std::string_view::npos;
  Numeral out;
  out.digits = real ? real_digits(place, number.get<double>(), line) : whole_digits(place, number, line);
  if (out.digits.starts_with('-')) {
    out.sign = "-";
    out.digits.erase(0, 1);
  } else if (place.plus || place.space) {
    out.sign = place.plus ? "+" : " ";
  }
  if (real) return out;
  const size_t least = size_t(precision_of(place, 0, line));
  if (out.digits.size() < least) out.digits.insert(0, least - out.digits.size(), '0');
  if (place.alternate && std::string_view("oxX").find(place.type) != std::string_view::npos)
    out.sign += {'0', place.type};
  return out;
}

}  // namespace pleat::jinja
