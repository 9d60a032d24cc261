// The emulated runtime's memory between processes: a handle names a file of the process that has the memory.
#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "kernels/emulator/guarded_memory.h"

namespace pleat::emulator {
namespace {

struct IpcHandle {
  int process, descriptor;
  size_t bytes, offset;
};
static_assert(sizeof(IpcHandle) <= sizeof(cudaIpcMemHandle_t));

// What was opened: where its mapping begins and how long it is, by what the opener got.
struct OpenedMemory {
  std::mutex mutex;
  std::map<void*, std::pair<void*, size_t>> of;
};

OpenedMemory& opened() {
  static OpenedMemory* const all = new OpenedMemory;  // outlives whoever closes last
  return *all;
}

}  // namespace
}  // namespace pleat::emulator

using namespace pleat::emulator;

extern "C" {

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  const SharedFile file = share_guarded(memory);
  if (file.descriptor < 0) return cudaErrorInvalidValue;
  const IpcHandle mine{getpid(), file.descriptor, file.bytes, file.offset};
  std::memcpy(handle, &mine, sizeof mine);
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned) {
  IpcHandle theirs{};
  std::memcpy(&theirs, &handle, sizeof theirs);
  if (theirs.process == getpid()) return cudaErrorInvalidValue;  // as CUDA refuses it
  const std::string name = "/proc/" + std::to_string(theirs.process) + "/fd/" + std::to_string(theirs.descriptor);
  const int file = open(name.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return cudaErrorInvalidValue;
  void* const begin = mmap(nullptr, theirs.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (begin == MAP_FAILED) return cudaErrorMemoryAllocation;
  *memory = static_cast<char*>(begin) + theirs.offset;
  const std::lock_guard lock(opened().mutex);
  opened().of[*memory] = {begin, theirs.bytes};
  return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void* memory) {
  const std::lock_guard lock(opened().mutex);
  const auto at = opened().of.find(memory);
  if (at == opened().of.end()) return cudaErrorInvalidValue;
  munmap(at->second.first, at->second.second);
  opened().of.erase(at);
  return cudaSuccess;
}
}
