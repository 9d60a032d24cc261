#pragma once
#include <memory>

#include "parallel/device/device_sum.h"
#include "parallel/shard_plan.h"

namespace pleat {

// The fastest way these ranks have: on one host they read each other's memory (between processes by CUDA IPC); else
// NCCL, or, in a build without it, the host's memory. Collective; each rank has taken its device.
//   capacity  floats of the largest message, most_nodes * rows * d, the same on all ranks
std::unique_ptr<DeviceSum> make_device_sum(Communicator& communicator, Reduction reduction, int64_t capacity);

}  // namespace pleat
