#pragma once
// Zeroed memory in whole pages, 2 MiB aligned and advised to huge pages when large. Buffers of some size that are too
// small for huge pages of their own share them: a page that the processor has to look up costs as much as a row of
// weights. Movable, not copyable.
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
    std::swap(shared_, other.shared_);
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
  struct SharedPages* shared_ = nullptr;  // that this is a part of
};

}  // namespace pleat
