#include "launcher/job_errors.h"

#include <unistd.h>

#include <cerrno>
#include <string_view>

namespace pleat {
namespace {

constexpr size_t kLongestLine = 4096;

}  // namespace

JobErrors::~JobErrors() { close(fd_); }

void JobErrors::pass_on() {
  char bytes[kLongestLine];
  const ssize_t count = read(fd_, bytes, sizeof bytes);
  if (count <= 0) {
    ended_ = count == 0 || (errno != EINTR && errno != EAGAIN);
    return;
  }
  [[maybe_unused]] const auto written = write(STDERR_FILENO, bytes, size_t(count));
  for (const char byte : std::string_view(bytes, size_t(count))) {
    if (byte == '\n' || byte == '\r')
      finish_line();
    else if (line_.size() < kLongestLine)
      line_ += byte;
  }
}

void JobErrors::finish_line() {
  constexpr std::string_view own = "pleat: ";
  if (line_.starts_with(own)) cause_ = line_.substr(own.size());
  line_.clear();
}

}  // namespace pleat
