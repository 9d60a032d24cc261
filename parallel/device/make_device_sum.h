#pragma once
#include <memory>

#include "parallel/device/device_sum.h"

namespace pleat {

// The fastest way these ranks have. Collective.
//   capacity  floats of the largest message, most_nodes * rows * d, the same on all ranks
std::unique_ptr<DeviceSum> make_device_sum(Communicator& communicator, int64_t capacity);

}  // namespace pleat
