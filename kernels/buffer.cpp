#include "kernels/buffer.h"

#include <sys/mman.h>

#include <cstdint>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kPage = 4096;

// Whole small pages: the end of a large buffer is not worth a huge page of its own.
size_t mapped_bytes(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

void* map_zeroed(size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw Error(ErrorKind::failed, concat("out of memory: cannot map ", bytes, " bytes"));
  return address;
}

}  // namespace

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  if (bytes > SIZE_MAX / 2) throw Error(ErrorKind::failed, concat("out of memory: cannot map ", bytes, " bytes"));
  const size_t size = mapped_bytes(bytes);
  if (size < kHugePage) {
    data_ = map_zeroed(size);
    return;
  }
  // mmap aligns to small pages only: map one huge page more and give the two ends back.
  char* start = static_cast<char*>(map_zeroed(size + kHugePage));
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
  if (before > 0) munmap(start, before);
  munmap(start + before + size, kHugePage - before);
  data_ = start + before;
  madvise(data_, size, MADV_HUGEPAGE);
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, mapped_bytes(bytes_));
}

}  // namespace pleat
