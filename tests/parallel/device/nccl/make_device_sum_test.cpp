// Which sum a job gets, where each rank has a device of its own.
#include "parallel/device/make_device_sum.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/emulator/emulated_nccl.h"
#include "kernels/emulator/runtime.h"
#include "parallel/device/device_inventory.h"
#include "parallel/thread_communicator.h"
#include "tests/parallel/device/processes.h"
#include "tests/parallel/device/sums.h"

namespace pleat {
namespace {

using emulator::NcclFaults;

constexpr int64_t kMeasured = 16 * 4096;       // floats of the smallest message that is measured
constexpr std::chrono::seconds kDeadline{10};  // longer than an abort of NCCL is waited for

class MakeDeviceSum : public testing::Test {
 protected:
  MakeDeviceSum() { emulator::set_device_count(2); }
  ~MakeDeviceSum() override {
    emulator::set_nccl_faults({});
    emulator::set_device_count(1);
  }

  using Result = std::pair<std::string, std::string>;

  // The way that both ranks' sums go, which are the Communicator's, and what was printed.
  static Result way(DeviceSums which, const NcclFaults& faults, int64_t least_capacity = 0) {
    emulator::set_nccl_faults(faults);
    std::string ways[2];
    testing::internal::CaptureStderr();
    run_ranks(2, [&](Communicator& communicator) {
      take_devices(communicator);
      communicator.set_timeout(kDeadline);
      expect_its_trees(communicator, [&](Communicator& ranks, int64_t capacity) {
        std::unique_ptr<DeviceSum> sum =
            make_device_sum(ranks, Reduction::invariant, 1, std::max(capacity, least_capacity), which);
        ways[ranks.rank()] = sum->way();
        return sum;
      });
    });
    EXPECT_EQ(ways[0], ways[1]);
    return {ways[0], testing::internal::GetCapturedStderr()};
  }
};

TEST_F(MakeDeviceSum, IsWhatWasAskedFor) {
  EXPECT_EQ(way(DeviceSums::automatic, {}), Result("peers", ""));
  EXPECT_EQ(way(DeviceSums::peers, {}), Result("peers", ""));
  EXPECT_EQ(way(DeviceSums::nccl, {}), Result("nccl", ""));
  EXPECT_EQ(way(DeviceSums::host, {}), Result("host", ""));
}

TEST_F(MakeDeviceSum, IsNcclWhereRanksDoNotReachEachOthersWindows) {
  for (const NcclFaults::Kind kind : {NcclFaults::Kind::no_window, NcclFaults::Kind::small_team}) {
    EXPECT_EQ(way(DeviceSums::automatic, {kind, 1, 0}), Result("nccl", ""));
    EXPECT_THROW(way(DeviceSums::peers, {kind, 1, 0}), Error);
    testing::internal::GetCapturedStderr();
  }
}

// Where messages are long enough to measure.
TEST_F(MakeDeviceSum, IsPeersWithNcclOrWithout) {
  const auto [taken, said] = way(DeviceSums::automatic, {}, kMeasured);
  EXPECT_TRUE(taken == "peers" || taken == "peers, NCCL from 256 KiB on") << taken;
  EXPECT_EQ(said, "");
}

// Processes that CUDA IPC joins do without it, and say nothing.
TEST_F(MakeDeviceSum, IsPeersAloneWhereNcclCannotStart) {
  run_processes(2, [](Communicator& communicator) {
    emulator::set_nccl_faults({NcclFaults::Kind::init_fails, -1, 0});
    testing::internal::CaptureStderr();
    const std::unique_ptr<DeviceSum> sum = make_device_sum(communicator, Reduction::invariant, 1, kMeasured);
    EXPECT_EQ(sum->way(), "peers");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    EXPECT_EQ(emulator::nccl_calls().started + communicator.rank(), 1);  // rank 1 does not know rank 0's id
  });
}

TEST_F(MakeDeviceSum, GoesThroughTheHostWhereNcclCannotStart) {
  const auto [taken, said] = way(DeviceSums::automatic, {NcclFaults::Kind::init_fails, -1, 0});
  EXPECT_EQ(taken, "host");
  EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
  for (const char* part : {"go through the host's memory: rank 0 (host ", "PCI 0000:01:00.0", "NCCL's start failed"})
    EXPECT_NE(said.find(part), std::string::npos) << part << "\n in " << said;
  EXPECT_EQ(way(DeviceSums::automatic, {NcclFaults::Kind::init_fails, 1, 0}).first, "host");
  EXPECT_THROW(way(DeviceSums::nccl, {NcclFaults::Kind::init_fails, -1, 0}), Error);
  testing::internal::GetCapturedStderr();
}

// It is named what does without NCCL, which nobody asked for.
TEST_F(MakeDeviceSum, SaysWhatStartsNoNcclWhereItsStartNeverEnds) {
  emulator::set_nccl_faults({NcclFaults::Kind::init_never_ends, -1, 0});
  for (const DeviceSums which : {DeviceSums::automatic, DeviceSums::nccl}) {
    std::string said[2];
    run_ranks(2, [&](Communicator& communicator) {
      communicator.set_timeout(std::chrono::seconds(1));
      take_devices(communicator);
      try {
        make_device_sum(communicator, Reduction::invariant, 1, kMeasured, which);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::peer_lost);
        said[communicator.rank()] = error.what();
      }
    });
    const std::string line = said[0] + said[1];  // one of them is silent
    EXPECT_NE(line.find("NCCL's start did not end within 1.0 s"), std::string::npos) << line;
    EXPECT_EQ(line.ends_with("; --device-sums host starts no NCCL"), which == DeviceSums::automatic) << line;
  }
}

}  // namespace
}  // namespace pleat
