#pragma once
// Copies to shared memory that a thread starts and waits for later, from sm_80 on. kernels/emulator/async_copy.h says
// the same for the emulator. Between the two, nobody may read or write where they go; after the wait the thread sees
// its own copies, and after a barrier those of others.
#include "device_language.h"

namespace pleat::cuda {

// Starts to copy the first `bytes` of 8 or 16 bytes; the others become 0. Both addresses are multiples of kBytes. (Of
// 16 bytes the cache line around them is fetched: who copies some will soon copy the next.)
template <int kBytes>
__device__ void copy_async(void* shared, const void* global, int bytes) {
  static_assert(kBytes == 8 || kBytes == 16);
  const unsigned to = unsigned(__cvta_generic_to_shared(shared));
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}

// What the thread has started since its last call becomes a group, empty or not.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Returns when all groups but the last kPending are done.
template <int kPending>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace pleat::cuda
