#include "parallel/device/nccl_window.h"

#include "device_language.h"
#include "window_pointer.h"

namespace pleat::cuda {
namespace {

__global__ void store_addresses(ncclWindow_vidmem* window, void** addresses) {
  addresses[threadIdx.x] = ncclGetLsaPointer(window, 0, int(threadIdx.x));
}

}  // namespace

void window_addresses(cudaStream_t stream, ncclWindow_vidmem* window, int ranks, void** addresses) {
  launch(store_addresses, {1, unsigned(ranks), 0, stream}, window, addresses);
}

}  // namespace pleat::cuda
