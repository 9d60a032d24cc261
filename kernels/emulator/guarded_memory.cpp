#include "kernels/emulator/guarded_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

namespace pleat::emulator {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kGuard = 64;  // bytes before what is given out that nobody writes

struct Mapping {
  void* begin = nullptr;
  size_t bytes = 0;
  size_t asked = 0;  // of the bytes that were given out
  int file = -1;     // where it is shared
};

struct Mappings {
  std::mutex mutex;
  std::map<void*, Mapping> of;  // by what allocate_guarded() gave
};

Mappings& mappings() {
  static Mappings* const all = new Mappings;  // outlives whoever frees last
  return *all;
}

size_t rounded(size_t bytes) { return (bytes + kAllocationUnit - 1) / kAllocationUnit * kAllocationUnit; }

void check_guards(const unsigned char* memory, size_t asked) {
  const auto is_untouched = [](unsigned char byte) { return byte == 0xff; };
  const bool before = !std::all_of(memory - kGuard, memory, is_untouched);
  if (!before && std::all_of(memory + asked, memory + rounded(asked), is_untouched)) return;
  std::fprintf(stderr, "emulator: there was a write %s an allocation of %zu bytes, which is freed now\n",
               before ? "before" : "past", asked);
  std::abort();
}

}  // namespace

void* allocate_guarded(size_t bytes) {
  const size_t used = rounded(bytes);
  const size_t pages = (kGuard + used + kPage - 1) / kPage * kPage;
  void* const begin =
      mmap(nullptr, pages + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (begin == MAP_FAILED) throw std::bad_alloc();
  char* const guard = static_cast<char*>(begin) + pages;
  if (mprotect(guard, kPage, PROT_NONE) != 0) throw std::bad_alloc();
  char* const out = guard - used;
  std::memset(out - kGuard, 0xff, kGuard + used);
  const std::lock_guard lock(mappings().mutex);
  mappings().of[out] = {begin, pages + kPage, bytes, -1};
  return out;
}

void free_guarded(void* memory) {
  if (memory == nullptr) return;
  Mapping mapping;
  {
    const std::lock_guard lock(mappings().mutex);
    const auto at = mappings().of.find(memory);
    if (at == mappings().of.end()) {
      std::fprintf(stderr, "emulator: %p is freed, which was not allocated or is freed twice\n", memory);
      std::abort();
    }
    mapping = at->second;
    mappings().of.erase(at);
  }
  check_guards(static_cast<const unsigned char*>(memory), mapping.asked);
  munmap(mapping.begin, mapping.bytes);
  if (mapping.file >= 0) close(mapping.file);
}

bool is_guarded(const void* memory, size_t bytes) {
  const std::lock_guard lock(mappings().mutex);
  auto behind = mappings().of.upper_bound(const_cast<void*>(memory));
  if (behind == mappings().of.begin()) return false;
  const auto& [begin, mapping] = *--behind;
  return static_cast<const char*>(memory) + bytes <= static_cast<const char*>(begin) + mapping.asked;
}

SharedFile share_guarded(void* memory) {
  const std::lock_guard lock(mappings().mutex);
  const auto at = mappings().of.find(memory);
  if (at == mappings().of.end()) return {};
  Mapping& mapping = at->second;
  const size_t bytes = mapping.bytes - kPage;
  if (mapping.file < 0) {
    const int file = memfd_create("emulated device memory", MFD_CLOEXEC);
    const bool copied = file >= 0 && write(file, mapping.begin, bytes) == ssize_t(bytes);
    if (!copied || mmap(mapping.begin, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
      if (file >= 0) close(file);
      return {};
    }
    mapping.file = file;
  }
  return {mapping.file, bytes, size_t(static_cast<char*>(memory) - static_cast<char*>(mapping.begin))};
}

}  // namespace pleat::emulator
