// Which sum a job gets, where each rank has a device of its own.
#include "parallel/device/make_device_sum.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/emulator/emulated_nccl.h"
#include "kernels/emulator/runtime.h"
#include "parallel/device/device_inventory.h"
#include "parallel/thread_communicator.h"
#include "tests/parallel/device/sums.h"

namespace pleat {
namespace {

using emulator::NcclFaults;

class MakeDeviceSum : public testing::Test {
 protected:
  MakeDeviceSum() { emulator::set_device_count(2); }
  ~MakeDeviceSum() override {
    emulator::set_nccl_faults({});
    emulator::set_device_count(1);
  }

  // The way that both ranks' sums go, which are the Communicator's, and what was printed.
  static std::pair<std::string, std::string> way(DeviceSums which, const NcclFaults& faults) {
    emulator::set_nccl_faults(faults);
    std::string ways[2];
    testing::internal::CaptureStderr();
    run_ranks(2, [&](Communicator& communicator) {
      take_devices(communicator);
      expect_its_trees(communicator, [&](Communicator& ranks, int64_t capacity) {
        std::unique_ptr<DeviceSum> sum = make_device_sum(ranks, Reduction::invariant, capacity, which);
        ways[ranks.rank()] = sum->way();
        return sum;
      });
    });
    EXPECT_EQ(ways[0], ways[1]);
    return {ways[0], testing::internal::GetCapturedStderr()};
  }
};

TEST_F(MakeDeviceSum, IsWhatWasAskedFor) {
  using Result = std::pair<std::string, std::string>;
  EXPECT_EQ(way(DeviceSums::automatic, {}), Result("nccl", ""));
  EXPECT_EQ(way(DeviceSums::nccl, {}), Result("nccl", ""));
  EXPECT_EQ(way(DeviceSums::host, {}), Result("host", ""));
  EXPECT_THROW(way(DeviceSums::peers, {}), Error);
  testing::internal::GetCapturedStderr();
}

TEST_F(MakeDeviceSum, GoesThroughTheHostWhereNcclCannotStart) {
  const auto [taken, said] = way(DeviceSums::automatic, {NcclFaults::Kind::init_fails, -1, 0});
  EXPECT_EQ(taken, "host");
  EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
  for (const char* part : {"go through the host's memory: rank 0 (host ", "PCI 0000:01:00.0", "NCCL's start failed"})
    EXPECT_NE(said.find(part), std::string::npos) << part << "\n in " << said;
  EXPECT_THROW(way(DeviceSums::nccl, {NcclFaults::Kind::init_fails, -1, 0}), Error);
  testing::internal::GetCapturedStderr();
}

}  // namespace
}  // namespace pleat
