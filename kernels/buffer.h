#pragma once
// Zeroed memory in whole pages, 2 MiB aligned and advised to huge pages when large. Movable, not copyable.
#include <cstddef>
#include <utility>

namespace pleat {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);  // Error(failed) naming the size when memory is out
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer();

  template <class T = std::byte>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace pleat
