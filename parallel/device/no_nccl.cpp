// Stands in for nccl_*.cpp in a build without NCCL.
#include "kernels/check.h"
#include "parallel/device/nccl_sum.h"
#include "parallel/device/peer_memory.h"

namespace pleat {

bool has_nccl() { return false; }

std::shared_ptr<NcclCommunicator> start_nccl(Communicator&) {
  throw Error(
      ErrorKind::unimplemented,
      "this build has no NCCL: install the CUDA toolkit and libnccl-dev from 2.28 on, so that nvcc, nccl_device.h "
      "and libnccl are found, and build again");
}

// Nothing has started that could be given to these.
void abandon(NcclCommunicator&) {}
std::unique_ptr<DeviceSum> nccl_sum(const std::shared_ptr<NcclCommunicator>&, Reduction, int64_t) { return nullptr; }
std::unique_ptr<PeerMemory> nccl_peer_memory(const std::shared_ptr<NcclCommunicator>&, int64_t) { return nullptr; }

}  // namespace pleat
