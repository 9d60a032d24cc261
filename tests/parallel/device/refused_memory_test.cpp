#include <sys/resource.h>

#include "parallel/device/peer_sum.h"
#include "processes.h"

namespace pleat {
namespace {

// The emulator shares memory by files, of which a process may have no more.
TEST(PeerSumOfProcesses, IsNoRanksWhereOneProcessCannotShareItsMemory) {
  run_processes(3, [](Communicator& communicator) {
    const rlimit no_files{};
    if (communicator.rank() == 1) setrlimit(RLIMIT_NOFILE, &no_files);
    EXPECT_EQ(PeerSum::make(communicator, 64), nullptr) << communicator.rank();
  });
}

}  // namespace
}  // namespace pleat
