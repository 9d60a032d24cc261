#pragma once
// printf into a string, for the lines of reports.
#include <cstdio>
#include <string>

namespace pleat {

template <class... Args>
std::string format_text(const char* pattern, Args... args) {
  std::string text(size_t(std::snprintf(nullptr, 0, pattern, args...)), '\0');
  std::snprintf(text.data(), text.size() + 1, pattern, args...);
  return text;
}

}  // namespace pleat
