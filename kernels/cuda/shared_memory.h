#pragma once
// How much shared memory a block may have. Included by .cu files only.
#include "kernels/cuda/runtime_check.h"

namespace pleat::cuda {

// A kernel with more dynamic bytes is allowed all of a block's before it starts. Without that it may have 48 KiB, of
// which the rest is for its SharedArrays.
constexpr size_t kDynamicWithoutAsking = 40u * 1024u;

// Bytes, on the calling thread's device: 99 KiB at compute capability 8.6, 8.9 and 12.0, 163 at 8.0, 227 from 9.0 on.
inline size_t most_shared_memory() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "no current device");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "the most shared memory");
  return size_t(bytes);
}

}  // namespace pleat::cuda
