#include "core/checkpoint/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "kernels/check.h"

namespace pleat {
namespace {

std::string cause(int error) { return std::generic_category().message(error); }

}  // namespace

File::File(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  PLEAT_REQUIRE(descriptor_ >= 0, "cannot open ", path_, ": ", cause(errno));
  struct stat status = {};
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) ::close(descriptor_);
  PLEAT_REQUIRE(regular, "cannot read ", path_, ": not a regular file");
  size_ = uint64_t(status.st_size);
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void File::read(uint64_t offset, size_t bytes, void* out) const {
  constexpr size_t kLargestRead = size_t(1) << 30;  // the system transfers at most 2 GiB a call
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor_, to, std::min(bytes, kLargestRead), off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(ErrorKind::failed, concat("cannot read ", path_, ": ", cause(errno)));
    PLEAT_REQUIRE(got > 0, path_, " became shorter while it was read: it ends at byte ", offset);
    to += got;
    offset += uint64_t(got);
    bytes -= size_t(got);
  }
}

std::string read_whole(const std::filesystem::path& path) {
  std::error_code none;
  PLEAT_REQUIRE(!std::filesystem::is_directory(path, none), "cannot read '", path.string(), "': it is a folder");
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  PLEAT_REQUIRE(file.is_open() && (file.peek() == EOF || text << file.rdbuf()) && !file.bad(), "cannot read '",
                path.string(), "'");
  return std::move(text).str();
}

}  // namespace pleat
