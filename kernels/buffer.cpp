#include "kernels/buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <mutex>

#include "kernels/check.h"

namespace pleat {

// Huge pages that buffers are cut from, in order; given back when the last of them is gone.
struct SharedPages {
  std::byte* begin = nullptr;
  size_t used = 0;
  int buffers = 0;
};

namespace {

constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kPage = 4096;
constexpr size_t kSharing = size_t(64) << 10;  // smaller buffers have small pages of their own, and so few of them
constexpr size_t kShared = 8 * kHugePage;
#if defined(__has_feature)
#define PLEAT_HAS_FEATURE(feature) __has_feature(feature)
#else
#define PLEAT_HAS_FEATURE(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || PLEAT_HAS_FEATURE(address_sanitizer)
constexpr bool kShares = false;  // an overrun is to meet a page that is not there
#else
constexpr bool kShares = true;
#endif

// Whole small pages: the end of a large buffer is not worth a huge page of its own.
size_t mapped_bytes(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

void* map_zeroed(size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw Error(ErrorKind::failed, concat("out of memory: cannot map ", bytes, " bytes"));
  return address;
}

std::byte* map_huge(size_t size) {
  // mmap aligns to small pages only: map one huge page more and give the two ends back.
  auto* start = static_cast<std::byte*>(map_zeroed(size + kHugePage));
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
  if (before > 0) munmap(start, before);
  munmap(start + before + size, kHugePage - before);
  madvise(start + before, size, MADV_HUGEPAGE);
  return start + before;
}

std::mutex sharing;
SharedPages* open_pages = nullptr;  // with room at the end

void* share(size_t size, SharedPages*& pages) {
  const std::lock_guard lock(sharing);
  if (open_pages == nullptr || open_pages->used + size > kShared) {
    open_pages = new SharedPages{map_huge(kShared)};
  }
  pages = open_pages;
  std::byte* const data = pages->begin + pages->used;
  pages->used += size;
  ++pages->buffers;
  return data;
}

void leave(SharedPages* pages) {
  const std::lock_guard lock(sharing);
  if (--pages->buffers > 0) return;
  if (pages == open_pages) {  // zeros again
    madvise(pages->begin, kShared, MADV_DONTNEED);
    pages->used = 0;
    return;
  }
  munmap(pages->begin, kShared);
  delete pages;
}

}  // namespace

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  if (bytes > SIZE_MAX / 2) throw Error(ErrorKind::failed, concat("out of memory: cannot map ", bytes, " bytes"));
  const size_t size = mapped_bytes(bytes);
  if (size >= kHugePage)
    data_ = map_huge(size);
  else if (kShares && size >= kSharing)
    data_ = share(size, shared_);
  else
    data_ = map_zeroed(size);
}

Buffer::~Buffer() {
  if (shared_ != nullptr)
    leave(shared_);
  else if (data_ != nullptr)
    munmap(data_, mapped_bytes(bytes_));
}

}  // namespace pleat
