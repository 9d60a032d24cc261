// Stands in for nccl_*.cpp in a build without NCCL.
#include "kernels/check.h"
#include "parallel/device/nccl_sum.h"

namespace pleat {

bool has_nccl() { return false; }

std::unique_ptr<DeviceSum> nccl_sum(Communicator&, Reduction, int64_t) {
  throw Error(ErrorKind::unimplemented,
              "this build has no NCCL: install the CUDA toolkit and libnccl-dev, so that nvcc, nccl.h and libnccl are "
              "found, and build again");
}

}  // namespace pleat
