#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

namespace pleat {

// A regular file open for reading at any place. Movable, not copyable.
class File {
 public:
  explicit File(std::filesystem::path path);  // Error(invalid) naming the file and the cause
  File(File&& other) noexcept
      : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}
  File& operator=(File&&) = delete;
  ~File();

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened
  void read(uint64_t offset, size_t bytes, void* out) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

// All of a file or a pipe. Error(invalid) naming it.
std::string read_whole(const std::filesystem::path& path);

}  // namespace pleat
