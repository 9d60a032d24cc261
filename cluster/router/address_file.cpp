#include "cluster/router/address_file.h"

#include <sys/stat.h>

#include <sstream>

#include "cluster/line_file.h"
#include "kernels/check.h"

namespace pleat {
namespace {

std::string version_of(const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) return "none";
  return concat(status.st_ino, ' ', status.st_size, ' ', status.st_mtim.tv_sec, ' ', status.st_mtim.tv_nsec);
}

}  // namespace

std::optional<std::vector<std::string>> AddressFile::changed() {
  const std::string version = version_of(path_);
  if (version == seen_) return std::nullopt;
  seen_ = version;
  std::vector<std::string> addresses;
  for (const std::string& line : lines_of(path_, "replicas")) {
    std::istringstream words(line.substr(0, line.find('#')));
    for (std::string address; words >> address;) addresses.push_back(address);
  }
  PLEAT_REQUIRE(!addresses.empty(), "'", path_, "' lists no replica");
  return addresses;
}

}  // namespace pleat
