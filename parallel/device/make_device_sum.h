#pragma once
#include <memory>

#include "parallel/device/device_sum.h"
#include "parallel/device_sums.h"
#include "parallel/shard_plan.h"

namespace pleat {

// Collective; each rank has taken its device.
//   capacity  floats of the largest message, most_nodes * rows * d, the same on all ranks
//   which     automatic: the fastest that these ranks have. On one host they read each other's memory (peers; between
//             processes by CUDA IPC); else NCCL, and where that is not in this build or cannot start, which one line on
//             stderr says, the host's memory. Another: Error(invalid or unimplemented) where they do not have it.
std::unique_ptr<DeviceSum> make_device_sum(Communicator& communicator, Reduction reduction, int64_t capacity,
                                           DeviceSums which = DeviceSums::automatic);

}  // namespace pleat
