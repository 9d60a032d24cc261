#include "core/text/jinja_numbers.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "core/text/jinja_lexer.h"
#include "core/text/jinja_texts.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

// To the nearest decimal number, and of two that are as near the even one, in the way of Python's round(): by the exact
// value, not by a product.
double to_decimals(double number, int64_t precision) {
  if (!std::isfinite(number) || precision > 323) return number;
  char text[700];  // 309 digits in front of the point
  std::snprintf(text, sizeof(text), "%.*f", int(precision), number);
  return std::strtod(text, nullptr);
}

double to_side(double number, int64_t precision, bool up, int line) {
  if (precision > 22) refuse(line, "the precision of round is too large");  // of a power of ten that a double holds
  const double power = std::pow(10.0, double(precision)), product = number * power;
  if (!std::isfinite(product)) refuse(line, "a number is too large");
  return (up ? std::ceil(product) : std::floor(product)) / power + 0.0;  // not -0.0
}

}  // namespace

Value to_integer(const Value& value, const Arguments& a) {
  const Json& json = value.json;
  if (json.is_number_integer()) return value;
  if (json.is_boolean()) return Json(int64_t(json.get<bool>()));
  std::optional<double> number;
  if (json.is_number_float()) number = json.get<double>();
  if (json.is_string()) {
    if (const auto whole = whole_of(json.get<std::string>(), a.line)) return Json(*whole);
    number = float_of(json.get<std::string>());
    if (number && !std::isfinite(*number)) number.reset();
  }
  if (!number) return a.get(0, "default", Json(0));
  if (!(std::fabs(*number) < 9e15)) refuse(a.line, "a number is too large");
  return Json(int64_t(*number));
}

Value to_float(const Value& value, const Arguments& a) {
  const Json& json = value.json;
  if (json.is_number()) return Json(json.get<double>());
  if (json.is_boolean()) return Json(double(json.get<bool>()));
  const auto number = json.is_string() ? float_of(json.get<std::string>()) : std::nullopt;
  return number ? Value(Json(*number)) : a.get(0, "default", Json(0.0));
}

Value rounded(const Value& value, const Arguments& a) {
  const int64_t precision = integer_of(a.get(0, "precision", Json(0)), a.line, "the precision of round");
  const std::string method = string_of(a.get(1, "method", Json("common")), a.line, "the method of round");
  if (precision < 0) refuse(a.line, "the precision of round is negative");
  if (method != "common" && method != "ceil" && method != "floor")
    refuse(a.line, "'round' has the methods common, ceil and floor");
  const Json& json = value.json;
  if (method == "common" && !json.is_number_float()) return Json(integer_of(value, a.line, "what is rounded"));
  const double number =
      json.is_number_float() ? json.get<double>() : double(integer_of(value, a.line, "what is rounded"));
  if (!json.is_number_float()) return Json(number);
  return Json(method == "common" ? to_decimals(number, precision)
                                 : to_side(number, precision, method == "ceil", a.line));
}

}  // namespace pleat::jinja
