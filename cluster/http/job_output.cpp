#include "cluster/http/job_output.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr std::string_view kBegin = R"({"id":"batch_req_)";  // of a record (batch_record.h)

// A pipe or a device, which is there.
bool is_stream(const std::string& path) {
  struct stat status = {};
  return stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
}

int64_t size_of_file(int file) {
  struct stat status = {};
  return fstat(file, &status) == 0 ? int64_t(status.st_size) : 0;
}

// Some file systems have nothing to sync.
bool sync(int file) { return fsync(file) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS; }

// May be what was left of a record when its writer ended; where its system ended, zeros.
bool is_cut_off(std::string_view text) {
  return text.starts_with(kBegin) || kBegin.starts_with(text) || text.find_first_not_of('\0') == text.npos;
}

}  // namespace

JobOutput::JobOutput(const std::string& path, bool resume, unsigned mode) : path_(path), is_stream_(is_stream(path)) {
  PLEAT_REQUIRE(!resume || !is_stream_, "'", path, "' is a device or a pipe: nothing there to resume");
  // Whoever reads a pipe shall be seen to leave, and be waited for with an ear for signals.
  const int how = is_stream_ ? O_WRONLY | O_NONBLOCK : O_RDWR | O_CREAT | O_APPEND;
  file_ = open(path.c_str(), how | O_CLOEXEC, mode);
  PLEAT_REQUIRE(file_ >= 0 || !is_stream_ || errno != ENXIO, "nobody reads output '", path, "'");
  PLEAT_REQUIRE(file_ >= 0, "cannot open output '", path, "': ", std::strerror(errno));
  if (is_stream_) return;
  try {
    PLEAT_REQUIRE(flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, "another job is writing to '", path,
                  "'");
    PLEAT_REQUIRE(resume || size_of_file(file_) == 0, "output '", path,
                  "' exists already; --resume continues it, or choose another name");
    if (resume) read_records();
  } catch (...) {
    close(file_);
    throw;
  }
}

JobOutput::~JobOutput() { close(file_); }

void JobOutput::read_records() {
  std::ifstream in(path_, std::ios::binary);
  std::string text;
  int64_t whole = 0;
  for (int64_t number = 1; std::getline(in, text) && !in.eof(); ++number) {
    note(nlohmann::json::parse(text, nullptr, false), number);
    whole += int64_t(text.size()) + 1;
  }
  if (!in.is_open() || in.bad())
    throw Error(ErrorKind::failed, concat("cannot read output '", path_, "': nothing in it was touched"));
  if (whole == size_of_file(file_)) return;
  PLEAT_REQUIRE(is_cut_off(text), "the last line of '", path_,
                "' is not the beginning of a record; --resume does not touch such a file");
  PLEAT_REQUIRE(ftruncate(file_, whole) == 0 && sync(file_), "cannot remove the cut-off last line of '", path_,
                "': ", std::strerror(errno));
}

void JobOutput::note(const nlohmann::json& record, int64_t number) {
  PLEAT_REQUIRE(record.is_object() && record.contains("custom_id") && record["custom_id"].is_string() &&
                    record.contains("response") && record.contains("error"),
                "line ", number, " of '", path_, "' is no record of a batch job; --resume does not touch such a file");
  const nlohmann::json &error = record["error"], &response = record["response"];
  if (error.is_object() && error.contains("line")) {
    PLEAT_REQUIRE(error["line"].is_number_integer(), "line ", number, " of '", path_,
                  "' is an error record whose 'line' is no number; --resume does not touch such a file");
    lines_.insert(error["line"].get<int64_t>());
  } else {
    ids_.insert(record["custom_id"].get<std::string>());
  }
  if (!response.is_object() || !response.contains("body") || !response["body"].is_object()) return;
  const nlohmann::json& body = response["body"];
  if (body.contains("model") && body["model"].is_string()) models_.insert(body["model"].get<std::string>());
}

void JobOutput::append(std::string line) {
  line += '\n';
  is_stream_ ? write_stream(line) : write_file(line);
}

void JobOutput::write_file(const std::string& line) {
  const int64_t before = size_of_file(file_);
  ssize_t written;
  do {
    written = write(file_, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written == ssize_t(line.size()) && sync(file_)) return;
  const std::string cause = written >= 0 && written < ssize_t(line.size()) ? "no space left" : std::strerror(errno);
  // Where even this fails, the next resume removes the half line.
  if (ftruncate(file_, before) == 0) sync(file_);
  throw Error(ErrorKind::failed,
              concat("cannot write '", path_, "': ", cause, "; its records are complete, and --resume continues"));
}

// Waits for whoever reads it; a signal ends that.
void JobOutput::write_stream(std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = write(file_, line.data(), line.size());
    if (written >= 0) line.remove_prefix(size_t(written));
    pollfd room{file_, POLLOUT, 0};
    if (written >= 0 || (errno == EAGAIN && poll(&room, 1, -1) >= 0)) continue;
    throw Error(ErrorKind::failed, concat("cannot write '", path_, "': ", std::strerror(errno)));
  }
}

}  // namespace pleat
