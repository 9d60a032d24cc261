#pragma once
// What a .cu file is written in, compiled by nvcc. kernels/emulator/device_language.h says the same for the emulator;
// the include path of a target chooses. Differences to plain CUDA:
//   SharedArray<T, n>      a __shared__ array that knows its bounds
//   dynamic_shared<T>()    the launch's dynamic shared memory
//   launch(kernel, {grid, block, shared bytes, stream}, arguments...)
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/runtime_check.h"

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
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& how, Arguments... arguments) {
  constexpr size_t kWithoutAsking = 48u * 1024u;
  if (how.shared > kWithoutAsking)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(how.shared)), "shared memory");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = how.block;
  config.dynamicSmemBytes = how.shared;
  config.stream = how.stream;
  config.attrs = &attribute;
  config.numAttrs = how.cooperative ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), "a kernel did not start");
}

// Flags between blocks, devices and processes.
__device__ inline void store_release(unsigned* to, unsigned value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
__device__ inline unsigned load_acquire(const unsigned* from) {
  unsigned value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
// For blocks of one device. Returns the value before.
__device__ inline unsigned add_acquire_release(unsigned* to, unsigned value) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(to), "r"(value) : "memory");
  return before;
}

}  // namespace pleat::cuda
