#include <unistd.h>

#include "core/fold/folded_checkpoint.h"
#include "kernels/check.h"

namespace pleat {
namespace fs = std::filesystem;

FolderInTheMaking::FolderInTheMaking(const fs::path& path) : path_(fs::absolute(path).lexically_normal()) {
  if (!path_.has_filename()) path_ = path_.parent_path();
  std::error_code error;
  PLEAT_REQUIRE(!fs::exists(path_, error) || (fs::is_directory(path_, error) && fs::is_empty(path_, error)), "'",
                path_.string(), "' is already there and not an empty folder: choose another --out or remove it");
  temporary_ = path_.parent_path() / concat(".", path_.filename().string(), ".", getpid());
  fs::remove_all(temporary_, error);
  fs::create_directories(temporary_, error);
  PLEAT_REQUIRE(!error, "cannot create a folder beside '", path_.string(), "': ", error.message());
}

FolderInTheMaking::~FolderInTheMaking() {
  std::error_code error;
  if (!temporary_.empty()) fs::remove_all(temporary_, error);
}

void FolderInTheMaking::commit() {
  std::error_code error;
  fs::rename(temporary_, path_, error);  // replaces an empty folder
  if (error)
    throw Error(ErrorKind::failed, concat("cannot name the finished folder '", path_.string(), "': ", error.message()));
  temporary_.clear();
}

}  // namespace pleat
