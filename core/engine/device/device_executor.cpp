#include "core/engine/device/device_executor.h"

#include <algorithm>

#include "core/engine/device/device_weights.h"
#include "kernels/cuda/copy_bandwidth.h"
#include "parallel/device/device_inventory.h"
#include "parallel/device/peer_memory.h"

namespace pleat {

namespace {

void take_device(Communicator& communicator) {
  const std::vector<RankDevice> devices = take_devices(communicator);
  check_devices(devices, PeerMemory::of_threads(communicator));  // threads, which only tests have, may share one
}

std::unique_ptr<ExecutorBuilder> take_weights(const Blueprint& blueprint, const ShardPlan& plan, int rank) {
  return std::make_unique<DeviceWeightTaker>(blueprint, plan, rank);
}

}  // namespace

Backend device_backend() {
  if (const std::string why = cuda::why_no_device(); !why.empty())
    throw Error(ErrorKind::unimplemented, concat("no CUDA device can be used: ", why));
  return {take_device, take_weights};
}

double device_copy_bandwidth() {
  const size_t bytes = size_t(std::min(int64_t(1) << 30, cuda::device_info().memory_free / 32));
  return cuda::copy_bandwidth(cuda::Stream(), bytes);
}

}  // namespace pleat
