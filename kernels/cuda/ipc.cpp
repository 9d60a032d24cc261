#include "kernels/cuda/ipc.h"

#include <cuda_runtime_api.h>

#include <bit>

#include "kernels/cuda/runtime_check.h"

namespace pleat::cuda {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(MemoryHandle));

MemoryHandle export_memory(void* memory) {
  cudaIpcMemHandle_t handle{};
  check(cudaIpcGetMemHandle(&handle, memory), "memory cannot be shared with other processes");
  return std::bit_cast<MemoryHandle>(handle);
}

ImportedMemory::ImportedMemory(const MemoryHandle& handle) {
  check(cudaIpcOpenMemHandle(&memory_, std::bit_cast<cudaIpcMemHandle_t>(handle), cudaIpcMemLazyEnablePeerAccess),
        "another process's memory cannot be reached");
}
ImportedMemory::~ImportedMemory() { cudaIpcCloseMemHandle(memory_); }

}  // namespace pleat::cuda
