#pragma once
// What kernels/cuda/language/async_copy.h says, for the emulator: data arrives at the wait and not before; until then
// its place holds 0xff bytes (floats of it are NaN), so that who reads too early, or starts too early to overwrite what
// others still read, shows.
#include "device_language.h"

namespace pleat::cuda {

template <int kBytes>
void copy_async(void* shared, const void* global, int bytes, emulator::Place place = emulator::Place::current()) {
  static_assert(kBytes == 8 || kBytes == 16);
  if (reinterpret_cast<uintptr_t>(shared) % kBytes != 0 || reinterpret_cast<uintptr_t>(global) % kBytes != 0)
    emulator::fail("an asynchronous copy's address is no multiple of its size", place);
  if (bytes < 0 || bytes > kBytes) emulator::fail("an asynchronous copy of more bytes than its size", place);
  std::memset(shared, 0xff, kBytes);
  emulator::AsyncCopies& copies = emulator::Block::current().async_copies;
  copies.pending.push_back({shared, global, bytes, kBytes - bytes, copies.groups});
}

inline void commit_copies() { ++emulator::Block::current().async_copies.groups; }

template <int kPending>
void wait_for_copies() {
  emulator::AsyncCopies& copies = emulator::Block::current().async_copies;
  auto copy = copies.pending.begin();
  for (; copy != copies.pending.end() && copy->group + kPending < copies.groups; ++copy) {
    std::memcpy(copy->to, copy->from, size_t(copy->bytes));
    std::memset(static_cast<char*>(copy->to) + copy->bytes, 0, size_t(copy->zeros));
  }
  copies.pending.erase(copies.pending.begin(), copy);
}

}  // namespace pleat::cuda
