#pragma once
// How much shared memory a block may have. Included by .cu files only.
#include "kernels/cuda/runtime_check.h"

namespace pleat::cuda {

// Bytes, on the calling thread's device: 99 KiB at compute capability 8.6, 8.9 and 12.0, 163 at 8.0, 227 from 9.0 on.
inline size_t most_shared_memory() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "no current device");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "the most shared memory");
  return size_t(bytes);
}

}  // namespace pleat::cuda
