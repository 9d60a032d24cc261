#pragma once
#include "kernels/cuda/device.h"

struct ncclWindow_vidmem;  // NCCL's name for what an ncclWindow_t points to

namespace pleat::cuda {

// Enqueues addresses [ranks] = where each rank's memory under the window is for this device's kernels. The ranks are
// one team that reaches each other by loads and stores (NCCL's LSA), numbered as in it.
//   addresses  on the device
void window_addresses(StreamHandle stream, ncclWindow_vidmem* window, int ranks, void** addresses);

}  // namespace pleat::cuda
