#pragma once
// What keeps a template from hanging and from filling memory, whatever it does.
#include <cstdint>
#include <string>
#include <string_view>

namespace pleat::jinja {

constexpr size_t kMostOutput = size_t(16) << 20;  // bytes of a text
constexpr size_t kMostParts = 1'000'000;          // of a text that is taken apart

// The work of a template. A value counts by its size (size_of).
class Steps {
 public:
  void take(int line, int64_t steps = 1);  // Error(invalid) where none is left

 private:
  int64_t left_ = 5'000'000;
};

// Error(invalid) where the text would become longer than kMostOutput; nothing is copied then.
void append(std::string& out, std::string_view text, int line);
void append_times(std::string& out, std::string_view text, int64_t count, int line);

}  // namespace pleat::jinja
