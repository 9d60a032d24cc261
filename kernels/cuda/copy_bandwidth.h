#pragma once
// What shares of the peak are counted against.
#include <cstdint>

#include "kernels/cuda/device.h"

namespace pleat::cuda {

// Bytes a second that a copy within the device reads and writes: the best of several copies of `bytes`. Larger than the
// device's caches, or it is theirs.
double copy_bandwidth(const Stream& stream, size_t bytes);

}  // namespace pleat::cuda
