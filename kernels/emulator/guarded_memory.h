#pragma once
// Memory whose end is the end of a page that an inaccessible one follows, filled with 0xff bytes (floats of it are
// NaN): writing or reading past it is a fault at that instruction, reading what nobody wrote shows. Writing right
// before it, or what is left of its last unit, is named when it is freed.
#include <cstddef>

namespace pleat::emulator {

constexpr size_t kAllocationUnit = 16;  // sizes are rounded up to it: no kernel asks for a stricter alignment

// std::bad_alloc where memory is out.
void* allocate_guarded(size_t bytes);
void free_guarded(void* memory);                    // nullptr: nothing; a pointer of another kind: aborts
bool is_guarded(const void* memory, size_t bytes);  // whether all of it is of one of these allocations

// The file that other processes map to see this memory, which keeps its address and content, and where in it.
struct SharedFile {
  int descriptor = -1;
  size_t bytes = 0, offset = 0;
};
SharedFile share_guarded(void* memory);  // descriptor -1: the host refuses, or this is no such memory

class GuardedMemory {
 public:
  explicit GuardedMemory(size_t bytes) : memory_(allocate_guarded(bytes)) {}
  ~GuardedMemory() { free_guarded(memory_); }
  GuardedMemory(const GuardedMemory&) = delete;
  void* get() const { return memory_; }

 private:
  void* memory_;
};

}  // namespace pleat::emulator
