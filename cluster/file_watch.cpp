#include "cluster/file_watch.h"

#include <sys/stat.h>

#include <utility>

#include "kernels/check.h"

namespace pleat {
namespace {

std::string version_of(const std::string& path) {
  struct stat status = {};
  if (path.empty()) return "";
  if (stat(path.c_str(), &status) != 0) return "none;";
  return concat(status.st_ino, ' ', status.st_size, ' ', status.st_mtim.tv_sec, ' ', status.st_mtim.tv_nsec, ';');
}

}  // namespace

bool FileWatch::changed() {
  std::string now;
  for (const std::string& path : paths_) now += version_of(path);
  return std::exchange(seen_, now) != now;
}

}  // namespace pleat
