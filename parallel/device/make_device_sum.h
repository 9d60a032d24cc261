#pragma once
#include <memory>

#include "parallel/device/device_sum.h"
#include "parallel/device_sums.h"
#include "parallel/shard_plan.h"

namespace pleat {

// Collective; each rank has taken its device.
//   most_nodes  of a rank in a message
//   capacity  floats of the largest message, most_nodes * rows * d, the same on all ranks
//   which     automatic: the fastest that these ranks have. They read each other's memory where they can (peers;
//   between
//             processes of a host by CUDA IPC, beyond in NCCL's windows), and where NCCL was faster from some size of
//             messages on in every measurement at the start, larger ones are its; else NCCL, and where that is not in
//             this build or cannot start, which one line on stderr says, the host's memory. Another: Error(invalid or
//             unimplemented) where they do not have it.
// With Reduction::fast NCCL adds in an order of its own: the same bits on every rank, but a row's may depend on how
// many rows are summed with it.
std::unique_ptr<DeviceSum> make_device_sum(Communicator& communicator, Reduction reduction, int most_nodes,
                                           int64_t capacity, DeviceSums which = DeviceSums::automatic);

}  // namespace pleat
