#include "core/engine/device/device_executor.h"

#include <algorithm>

#include "core/engine/device/device_step.h"
#include "kernels/cuda/copy_bandwidth.h"
#include "parallel/device/device_inventory.h"
#include "parallel/device/peer_memory.h"

namespace pleat {

namespace {

void take_device(Communicator& communicator) {
  const std::vector<RankDevice> devices = take_devices(communicator);
  check_devices(devices, PeerMemory::of_threads(communicator));  // threads, which only tests have, may share one
}

std::unique_ptr<StepExecutor> make_device_step(const Blueprint& blueprint, const Weights& weights,
                                               const ShardPlan& plan, Communicator& communicator,
                                               const EngineOptions& options) {
  return std::make_unique<DeviceStep>(blueprint, weights, plan, communicator, options);
}

}  // namespace

Backend device_backend() {
  if (const std::string why = cuda::why_no_device(); !why.empty())
    throw Error(ErrorKind::unimplemented, concat("no CUDA device can be used: ", why));
  return {take_device, make_device_step};
}

double device_copy_bandwidth() {
  const size_t bytes = size_t(std::min(int64_t(1) << 30, cuda::device_info().memory_free / 32));
  return cuda::copy_bandwidth(cuda::Stream(), bytes);
}

}  // namespace pleat
