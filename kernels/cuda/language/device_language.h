#pragma once
// What a .cu file is written in, compiled by nvcc. kernels/emulator/device_language.h says the same for the emulator;
// the include path of a target chooses. Differences to plain CUDA:
//   SharedArray<T, n>      a __shared__ array that knows its bounds
//   dynamic_shared<T>()    the launch's dynamic shared memory
//   launch(kernel, {grid, block, shared bytes, stream}, arguments...)
//   launch_overlapping(...)   the same, for a kernel that may start while the one before it in the stream still runs
//                          (from sm_90 on: programmatic dependent launch). Before it touches memory that any kernel
//                          writes, or writes any itself, all its threads call wait_for_previous().
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/shared_memory.h"

namespace pleat::cuda {

template <class T, int kCount>
struct SharedArray {
  alignas(16) T values[kCount];
  __device__ T& operator[](int i) { return values[i]; }
  __device__ T* data() { return values; }
};

template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char pleat_dynamic_shared[];
  return reinterpret_cast<T*>(pleat_dynamic_shared);
}

struct Launch {
  dim3 grid, block;
  size_t shared = 0;  // bytes of dynamic shared memory
  cudaStream_t stream = nullptr;
  bool cooperative = false;  // blocks wait for each other
  bool overlaps = false;     // see launch_overlapping()
};

// Whether the code that the device runs has a wait_for_previous() that waits: that for sm_80 has none, wherever it
// runs. Found out once, of any kernel: all are compiled for the same devices.
inline bool can_overlap(const void* kernel) {
  static const bool can = [&] {
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, kernel), "a kernel's attributes");
    return attributes.ptxVersion >= 90;
  }();
  return can;
}

// Lets a kernel's launches have as much shared memory as a block of this device can have. The limit is the kernel's,
// not a launch's: captured launches and other threads' rely on it later.
inline void allow_all_shared_memory(const void* kernel) {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kernel), "a kernel's attributes");
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             int(most_shared_memory() - attributes.sharedSizeBytes)),
        "shared memory");
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& how, Arguments... arguments) {
  if (how.shared > kDynamicWithoutAsking) allow_all_shared_memory(reinterpret_cast<const void*>(kernel));
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (how.cooperative) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  if (how.overlaps && can_overlap(reinterpret_cast<const void*>(kernel))) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = how.block;
  config.dynamicSmemBytes = how.shared;
  config.stream = how.stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), "a kernel did not start");
}

template <class... Parameters, class... Arguments>
void launch_overlapping(void (*kernel)(Parameters...), Launch how, Arguments... arguments) {
  how.overlaps = true;
  launch(kernel, how, arguments...);
}

// Returns when the kernels before this one in the stream have ended and all they wrote can be seen. Loads that the
// compiler may move (__ldg) are not held back by it.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The next kernel, if it is one that overlaps, may start once all blocks have called this, or ended.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Towards the L2 cache: 128 bytes that will be read soon. A hint, and no access: it may come before the wait.
__device__ inline void prefetch(const void* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

// Flags between blocks, devices and processes.
__device__ inline void store_release(unsigned* to, unsigned value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
__device__ inline unsigned load_acquire(const unsigned* from) {
  unsigned value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
// Words of 8 bytes, which are seen as a whole, and two neighbours, from a multiple of 16 bytes on, each as a whole.
// They order nothing else.
__device__ inline void store_relaxed(uint64_t* to, uint64_t value) {
  asm volatile("st.relaxed.sys.global.b64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}
__device__ inline void store_relaxed(uint64_t* to, uint64_t first, uint64_t second) {
  asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(first), "l"(second) : "memory");
}
__device__ inline uint64_t load_relaxed(const uint64_t* from) {
  uint64_t value;
  asm volatile("ld.relaxed.sys.global.b64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
  return value;
}
__device__ inline void load_relaxed(const uint64_t* from, uint64_t& first, uint64_t& second) {
  asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];" : "=l"(first), "=l"(second) : "l"(from) : "memory");
}
// For blocks of one device. Returns the value before.
__device__ inline unsigned add_acquire_release(unsigned* to, unsigned value) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(to), "r"(value) : "memory");
  return before;
}

}  // namespace pleat::cuda
