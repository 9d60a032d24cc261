// The emulated runtime's devices: this host, as often as a test wants it.
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>

#include "kernels/emulator/block.h"
#include "kernels/emulator/guarded_memory.h"
#include "kernels/emulator/runtime.h"

namespace pleat::emulator {
namespace {

std::atomic<int> devices = 1;
thread_local constinit int current = 0;
constexpr size_t kMemory = size_t(1) << 30;  // bytes of each, all of them free

constexpr size_t kCounted = 16;  // devices
std::array<std::atomic<int64_t>, kCounted> allocated;

bool exists(int device) { return device >= 0 && device < devices; }

}  // namespace

void set_device_count(int count) { devices = count; }
int64_t allocated_on(int device) { return allocated[size_t(device) % kCounted]; }
void note_allocation(size_t bytes) { allocated[size_t(current) % kCounted] += int64_t(bytes); }

}  // namespace pleat::emulator

using namespace pleat::emulator;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDevice(int* device) { return *device = current, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  if (!exists(device)) return cudaErrorInvalidDevice;
  current = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!exists(device)) return cudaErrorInvalidDevice;
  *properties = {};
  std::strcpy(properties->name, "emulated device");
  const int32_t process = getpid();  // whose devices are no other's
  std::memcpy(properties->uuid.bytes, &process, sizeof process);
  properties->uuid.bytes[15] = char(device + 1);
  properties->major = 8;
  properties->totalGlobalMem = kMemory;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (!exists(device) || attribute != cudaDevAttrMaxSharedMemoryPerBlockOptin) return cudaErrorInvalidValue;
  return *value = most_shared(), cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int device) {
  if (!exists(device)) return cudaErrorInvalidDevice;
  std::snprintf(id, size_t(size), "0000:%02x:00.0", unsigned(device) + 1);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  *attributes = {};
  attributes->type = is_guarded(memory, 1) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *free = *total = kMemory, cudaSuccess; }
}
