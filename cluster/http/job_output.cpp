#include "cluster/http/job_output.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "kernels/check.h"

namespace pleat {
namespace {

bool is_regular_file(int file) {
  struct stat status = {};
  return fstat(file, &status) == 0 && S_ISREG(status.st_mode);
}

int64_t size_of_file(int file) {
  struct stat status = {};
  return fstat(file, &status) == 0 ? int64_t(status.st_size) : 0;
}

// Pipes and devices have nothing to sync.
bool sync(int file) { return fsync(file) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS; }

}  // namespace

JobOutput::JobOutput(const std::string& path, bool resume, unsigned mode) : path_(path) {
  file_ = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, mode);
  PLEAT_REQUIRE(file_ >= 0, "cannot open output '", path, "': ", std::strerror(errno));
  try {
    PLEAT_REQUIRE(flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, "another job is writing to '", path,
                  "'");
    PLEAT_REQUIRE(resume || size_of_file(file_) == 0, "output '", path,
                  "' exists already; --resume continues it, or choose another name");
    PLEAT_REQUIRE(!resume || is_regular_file(file_), "'", path, "' is a device or a pipe: nothing there to resume");
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
    const auto record = nlohmann::json::parse(text, nullptr, false);
    PLEAT_REQUIRE(record.is_object() && record.contains("custom_id") && record["custom_id"].is_string(), "line ",
                  number, " of '", path_, "' is no record of a batch job; --resume does not touch such a file");
    const auto error = record.find("error");
    if (error != record.end() && error->is_object() && error->contains("line")) {
      PLEAT_REQUIRE(error->at("line").is_number_integer(), "line ", number, " of '", path_,
                    "' is an error record whose 'line' is no number; --resume does not touch such a file");
      lines_.insert(error->at("line").get<int64_t>());
    } else {
      ids_.insert(record["custom_id"].get<std::string>());
    }
    whole += int64_t(text.size()) + 1;
  }
  if (!in.is_open() || in.bad())
    throw Error(ErrorKind::failed, concat("cannot read output '", path_, "': nothing in it was touched"));
  if (whole == size_of_file(file_)) return;
  PLEAT_REQUIRE(ftruncate(file_, whole) == 0 && sync(file_), "cannot remove the cut-off last line of '", path_,
                "': ", std::strerror(errno));
}

void JobOutput::append(std::string line) {
  line += '\n';
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

}  // namespace pleat
