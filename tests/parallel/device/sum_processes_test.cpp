// Sums through peers' memory with ranks as processes over one device, or the emulator's: by CUDA IPC.
#include "parallel/device/peer_sum.h"
#include "processes.h"
#include "sums.h"

namespace pleat {
namespace {

// This process must not have asked for a device: it forks.
TEST(PeerSumOfProcesses, HasTheBitsOfTheCommunicatorsTrees) {
  if (const std::string why = said_by_a_process(cuda::why_no_device); !why.empty()) GTEST_SKIP() << why;
  for (const int ranks : {2, 3})
    run_processes(ranks, [](Communicator& communicator) { expect_its_trees(communicator, PeerSum::make); });
}

}  // namespace
}  // namespace pleat
