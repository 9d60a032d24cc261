#pragma once

namespace pleat {

// Which way the ranks' devices are summed (device/make_device_sum.h).
enum class DeviceSums { automatic, peers, nccl, host };

}  // namespace pleat
