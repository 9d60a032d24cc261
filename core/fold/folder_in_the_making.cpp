#include <sys/stat.h>
#include <unistd.h>

#include <random>
#include <utility>

#include "core/fold/folded_checkpoint.h"
#include "kernels/check.h"

namespace pleat {
namespace fs = std::filesystem;

FolderInTheMaking::FolderInTheMaking(const fs::path& path) {
  PLEAT_REQUIRE(!path.empty(), "--out names no folder");
  path_ = fs::absolute(path).lexically_normal();
  if (!path_.has_filename()) path_ = path_.parent_path();
  std::error_code error;
  PLEAT_REQUIRE(!fs::exists(path_, error) || (fs::is_directory(path_, error) && fs::is_empty(path_, error)), "'",
                path_.string(), "' is already there and not an empty folder: choose another --out or remove it");
  struct stat there = {}, beside = {};
  PLEAT_REQUIRE(!fs::is_symlink(path_, error), "'", path_.string(), "' is a link: name the folder itself as --out");
  PLEAT_REQUIRE(stat(path_.c_str(), &there) != 0 || stat(path_.parent_path().c_str(), &beside) != 0 ||
                    there.st_dev == beside.st_dev,
                "'", path_.string(), "' is a file system of its own: choose a folder in it as --out");
  std::random_device random;  // another host's process may have the same number, and the same folder
  temporary_ = path_.parent_path() / concat(".", path_.filename().string(), ".", getpid(), "-", random());
  for (fs::path parent = path_.parent_path(); !fs::exists(parent, error); parent = parent.parent_path())
    made_.push_back(parent);
  fs::create_directories(temporary_, error);
  PLEAT_REQUIRE(!error, "cannot create a folder beside '", path_.string(), "': ", error.message());
}

FolderInTheMaking::~FolderInTheMaking() {
  std::error_code error;
  if (temporary_.empty()) return;
  fs::remove_all(temporary_, error);
  for (const fs::path& parent : made_) fs::remove(parent, error);  // where it is empty
}

void FolderInTheMaking::commit() {
  std::error_code error;
  fs::rename(temporary_, path_, error);  // replaces an empty folder
  const fs::path finished = std::exchange(temporary_, fs::path());
  if (error)
    throw Error(ErrorKind::failed, concat("cannot name the finished folder '", path_.string(), "': ", error.message(),
                                          "; it is '", finished.string(), "'"));
}

}  // namespace pleat
