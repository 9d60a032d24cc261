#pragma once
// Errors and checks. Caller's fault: PLEAT_REQUIRE, a message a user can act on. Our fault: PLEAT_ASSERT.
#include <concepts>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

namespace pleat {

// What the caller can do about it (the kinds of kj::Exception, plus two that decide the exit code).
enum class ErrorKind {
  invalid,        // bad input or usage: fix it                 exit code 2
  failed,         // gave up                                    exit code 1
  overloaded,     // try later
  disconnected,   // reconnect
  unimplemented,  // another way                                exit code 2
  peer_lost,      // a rank died or was late                    exit code 70
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// What concat() joins: text, whole numbers, others in six digits, paths in quotes. (No stream: their header is one of
// the largest.)
inline void append_text(std::string& to, std::string_view text) { to += text; }
template <std::integral Number>
void append_text(std::string& to, Number number) {
  if constexpr (std::same_as<Number, char>)
    to += number;
  else
    to += std::to_string(number);
}
void append_text(std::string& to, std::floating_point auto number) {
  char digits[32];
  to.append(digits, size_t(std::snprintf(digits, sizeof(digits), "%g", double(number))));
}
template <class Path>
requires std::same_as<typename Path::string_type, std::string>
void append_text(std::string& to, const Path& path) {
  to += '"';
  for (const char character : path.native()) {
    if (character == '"' || character == '\\') to += '\\';
    to += character;
  }
  to += '"';
}

// Joins its arguments as text.
template <class... Args>
std::string concat(const Args&... args) {
  std::string joined;
  (append_text(joined, args), ...);
  return joined;
}

// Runs f; an Error leaving it gets `prefix` in front: "rank 2: layer 7: ...".
template <class F>
auto with_context(const std::string& prefix, F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const Error& error) {
    throw Error(error.kind(), prefix + ": " + error.what());
  }
}

}  // namespace pleat

#define PLEAT_REQUIRE(condition, ...)                                                                  \
  do {                                                                                                 \
    if (!(condition)) throw ::pleat::Error(::pleat::ErrorKind::invalid, ::pleat::concat(__VA_ARGS__)); \
  } while (false)

#define PLEAT_ASSERT(condition, ...)                                                                                 \
  do {                                                                                                               \
    if (!(condition))                                                                                                \
      throw ::pleat::Error(::pleat::ErrorKind::failed, ::pleat::concat("bug at ", __FILE__, ":", __LINE__, ": ",     \
                                                                       #condition __VA_OPT__(, " ", ) __VA_ARGS__)); \
  } while (false)
