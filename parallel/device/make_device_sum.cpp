#include "parallel/device/make_device_sum.h"

#include <cstdio>

#include "parallel/device/nccl_sum.h"
#include "parallel/device/one_rank_sum.h"
#include "parallel/device/peer_sum.h"
#include "parallel/device/staged_sum.h"

namespace pleat {
namespace {

// Through the host's memory where NCCL cannot start on a rank: the first such rank says why.
std::unique_ptr<DeviceSum> nccl_or_host(Communicator& communicator, Reduction reduction, int64_t capacity) {
  std::unique_ptr<DeviceSum> sum;
  std::string trouble;
  try {
    sum = nccl_sum(communicator, reduction, capacity);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::peer_lost) throw;
    trouble = error.what();
  }
  const int64_t first = communicator.agree_min("NCCL", trouble.empty() ? communicator.ranks() : communicator.rank());
  if (first == communicator.ranks()) return sum;
  if (first == communicator.rank())
    std::fprintf(stderr, "pleat: the devices' sums go through the host's memory: %s\n", trouble.c_str());
  return std::make_unique<StagedSum>(communicator, capacity);
}

}  // namespace

std::unique_ptr<DeviceSum> make_device_sum(Communicator& communicator, Reduction reduction, int64_t capacity,
                                           DeviceSums which) {
  if (communicator.ranks() == 1) return std::make_unique<OneRankSum>();
  if (which == DeviceSums::automatic || which == DeviceSums::peers) {
    if (std::unique_ptr<DeviceSum> sum = PeerSum::make(communicator, capacity)) return sum;
    PLEAT_REQUIRE(which == DeviceSums::automatic, "--device-sums peers: a rank's device cannot reach another's memory");
  }
  if (which == DeviceSums::nccl) return nccl_sum(communicator, reduction, capacity);
  if (which == DeviceSums::automatic && has_nccl()) return nccl_or_host(communicator, reduction, capacity);
  return std::make_unique<StagedSum>(communicator, capacity);
}

}  // namespace pleat
