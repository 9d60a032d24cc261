#pragma once
// A named piece of memory that processes of one host share (POSIX shared memory).
#include <cstddef>
#include <string>

namespace pleat {

class SharedMemory {
 public:
  SharedMemory() = default;
  // New and zeroed, under a name nobody else uses. Error(failed) saying what is missing when /dev/shm is too small.
  static SharedMemory create(size_t bytes);
  static SharedMemory open(const std::string& name, size_t bytes);
  ~SharedMemory();
  SharedMemory(SharedMemory&& other) noexcept { swap(other); }
  SharedMemory& operator=(SharedMemory&& other) noexcept {
    swap(other);
    return *this;
  }

  const std::string& name() const { return name_; }
  std::byte* data() const { return static_cast<std::byte*>(data_); }

  // Forgets the name: the memory lives until the last process that mapped it ends. Harmless when done twice.
  void unlink();

 private:
  SharedMemory(std::string name, size_t bytes, int flags);
  void swap(SharedMemory& other);
  std::string name_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace pleat
