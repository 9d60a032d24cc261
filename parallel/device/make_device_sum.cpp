#include "parallel/device/make_device_sum.h"

#include "parallel/device/nccl_sum.h"
#include "parallel/device/one_rank_sum.h"
#include "parallel/device/peer_sum.h"
#include "parallel/device/staged_sum.h"

namespace pleat {

std::unique_ptr<DeviceSum> make_device_sum(Communicator& communicator, Reduction reduction, int64_t capacity) {
  if (communicator.ranks() == 1) return std::make_unique<OneRankSum>();
  if (std::unique_ptr<DeviceSum> sum = PeerSum::make(communicator, capacity)) return sum;
  if (has_nccl()) return nccl_sum(communicator, reduction, capacity);
  return std::make_unique<StagedSum>(communicator, capacity);
}

}  // namespace pleat
