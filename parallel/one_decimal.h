#pragma once
// Numbers as the ranks' sentences have them: "waited 1.5 s", "79.2 GiB".
#include <cstdio>
#include <string>

namespace pleat {

inline std::string one_decimal(double number) {
  char digits[320];  // of the largest double
  return {digits, size_t(std::snprintf(digits, sizeof digits, "%.1f", number))};
}

}  // namespace pleat
