#pragma once
// Device memory that other processes of this host read and write (CUDA IPC).
#include <array>
#include <cstddef>

namespace pleat::cuda {

using MemoryHandle = std::array<std::byte, 64>;

// Of what allocate() gave, which must outlive every use elsewhere. Error(failed) where the driver cannot.
MemoryHandle export_memory(void* memory);

// Another process's memory, for kernels of this thread's device. Error(failed) where that cannot reach it.
class ImportedMemory {
 public:
  explicit ImportedMemory(const MemoryHandle& handle);
  ~ImportedMemory();
  ImportedMemory(const ImportedMemory&) = delete;
  void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

}  // namespace pleat::cuda
