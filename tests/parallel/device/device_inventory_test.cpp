#include "parallel/device/device_inventory.h"

#include <gtest/gtest.h>

#include "kernels/emulator/runtime.h"
#include "parallel/thread_communicator.h"

namespace pleat {
namespace {

constexpr int64_t kGiB = int64_t(1) << 30;

// Rank `ordinal` of a host of healthy devices.
RankDevice healthy(const std::string& host, int ordinal) {
  const std::string number = std::to_string(ordinal);
  return {.host = host,
          .visible = 4,
          .device = {.ordinal = ordinal,
                     .pci = "0000:" + number + "1:00.0",
                     .uuid = host + number,
                     .name = "NVIDIA H100",
                     .major = 9,
                     .memory_total = 80 * kGiB,
                     .memory_free = 78 * kGiB}};
}

std::vector<RankDevice> two_hosts() { return {healthy("n1", 0), healthy("n1", 1), healthy("n2", 0), healthy("n2", 1)}; }

std::string complaint(const std::vector<RankDevice>& ranks, bool may_share = false) {
  try {
    check_devices(ranks, may_share);
    return "";
  } catch (const Error& error) {
    // What others have of the memory may pass.
    EXPECT_EQ(error.kind() == ErrorKind::failed, std::string(error.what()).find(" free of ") != std::string::npos);
    return error.what();
  }
}

TEST(DeviceCheck, EqualDevicesOfSeveralHostsAreGood) {
  EXPECT_EQ(complaint(two_hosts()), "");
  EXPECT_EQ(complaint({healthy("n1", 3)}), "");
}

TEST(DeviceCheck, TwoRanksOnOneDeviceAreNamedUnlessTheyMayShareIt) {
  std::vector<RankDevice> ranks = two_hosts();
  ranks[3] = ranks[2];
  EXPECT_EQ(complaint(ranks),
            "ranks 2 and 3 are both on device 0 of host n2 (PCI 0000:01:00.0): start one rank a device, and let "
            "CUDA_VISIBLE_DEVICES show all of them");
  EXPECT_EQ(complaint(ranks, true), "");
  ranks[3].device.uuid = "another part of it";
  EXPECT_EQ(complaint(ranks), "");
}

TEST(DeviceCheck, ARankWithoutADeviceIsNamedWithTheVariableToSet) {
  std::vector<RankDevice> ranks = two_hosts();
  ranks[1] = {.host = "n1", .trouble = "no CUDA-capable device is detected"};
  EXPECT_EQ(complaint(ranks),
            "rank 1 (host n1) has no CUDA device: no CUDA-capable device is detected; is there a driver, and does "
            "CUDA_VISIBLE_DEVICES show a device?");
  EXPECT_EQ(complaint(ranks, true), complaint(ranks));
  ranks = {healthy("n1", 0), healthy("n1", 1), {.host = "n1", .visible = 2, .trouble = "too few are visible"}};
  EXPECT_EQ(complaint(ranks),
            "rank 2 (host n1) finds no device left: 3 ranks of this host see 2; let CUDA_VISIBLE_DEVICES show 3 or "
            "start fewer ranks there");
}

TEST(DeviceCheck, MixedKindsAreNamed) {
  std::vector<RankDevice> ranks = two_hosts();
  ranks[2].device.name = "NVIDIA A100";
  ranks[2].device.major = 8;
  EXPECT_EQ(complaint(ranks),
            "rank 2 (host n2, device 0, PCI 0000:01:00.0) has NVIDIA A100 (8.0) and rank 0 (host n1, device 0, PCI "
            "0000:01:00.0) has NVIDIA H100 (9.0): choose devices of one kind");
  ranks[2].device = healthy("n2", 0).device;
  ranks[2].device.minor = 1;
  EXPECT_NE(complaint(ranks).find("NVIDIA H100 (9.1)"), std::string::npos);
}

TEST(DeviceCheck, FreeMemoryMayDifferByATenth) {
  std::vector<RankDevice> ranks = two_hosts();
  ranks[0].device.memory_free = 80 * kGiB;
  ranks[3].device.memory_free = 72 * kGiB;
  EXPECT_EQ(complaint(ranks), "");
  ranks[3].device.memory_free -= 1;
  EXPECT_EQ(complaint(ranks),
            "rank 3 (host n2, device 1, PCI 0000:11:00.0) has 72.0 GiB free of 80.0 GiB, but rank 0 (host n1, device "
            "0, PCI 0000:01:00.0) has 80.0 GiB: end what else runs there");
}

TEST(DeviceChoice, IsTheLocalRankAndNeverWrapsAround) {
  EXPECT_EQ(choose_device(0, 4), 0);
  EXPECT_EQ(choose_device(3, 4), 3);
  EXPECT_EQ(choose_device(4, 4), -1);
  EXPECT_EQ(choose_device(2, 2), -1);
  EXPECT_EQ(choose_device(0, 0), -1);
  EXPECT_EQ(choose_device(5, 1), 0);  // bound by the launcher; two ranks on one device are found by their UUIDs
}

TEST(DeviceCheck, OneDeviceUnderTwoNamesOfItsHostIsShared) {
  std::vector<RankDevice> ranks = two_hosts();
  ranks[2].device.uuid = ranks[0].device.uuid;
  EXPECT_NE(complaint(ranks).find("ranks 0 and 2 are both on device 0"), std::string::npos) << complaint(ranks);
}

class TakeDevices : public testing::Test {
 protected:
  ~TakeDevices() override { emulator::set_device_count(1); }

  // What every rank gathers, which is the same.
  static std::vector<RankDevice> taken(int ranks, int visible) {
    emulator::set_device_count(visible);
    std::vector<std::vector<RankDevice>> all{size_t(ranks)};
    run_ranks(ranks, [&](Communicator& communicator) {
      all[size_t(communicator.rank())] = take_devices(communicator);
      if (all[size_t(communicator.rank())][size_t(communicator.rank())].trouble.empty()) {
        EXPECT_EQ(cuda::device_info().uuid, all[size_t(communicator.rank())][size_t(communicator.rank())].device.uuid);
      }
    });
    for (const std::vector<RankDevice>& of_rank : all)
      for (size_t rank = 0; rank < size_t(ranks); ++rank)
        EXPECT_EQ(name_of(int(rank), of_rank[rank]), name_of(int(rank), all[0][rank]));
    return all[0];
  }
};

TEST_F(TakeDevices, EveryRankTakesItsOwnAndAllKnowWhatTheOthersHave) {
  const std::vector<RankDevice> ranks = taken(3, 3);
  for (int rank = 0; rank < 3; ++rank) {
    const cuda::DeviceInfo& device = ranks[size_t(rank)].device;
    EXPECT_EQ(device.ordinal, rank);
    EXPECT_EQ(device.pci, "0000:0" + std::to_string(rank + 1) + ":00.0");
    EXPECT_EQ(device.uuid.size(), 32u);
    EXPECT_EQ(device.uuid.substr(8), "00000000000000000000000" + std::to_string(rank + 1));  // behind the process
    EXPECT_EQ(device.name, "emulated device");
    EXPECT_EQ(device.major, 8);
    EXPECT_EQ(device.memory_total, kGiB);
    EXPECT_EQ(ranks[size_t(rank)].visible, 3);
  }
  EXPECT_EQ(complaint(ranks), "");
}

TEST_F(TakeDevices, TooFewOrNoneAreSaidInOneSentence) {
  EXPECT_NE(complaint(taken(3, 2)).find("3 ranks of this host see 2"), std::string::npos);
  EXPECT_NE(complaint(taken(2, 1)).find("ranks 0 and 1 are both on device 0"), std::string::npos);
  EXPECT_NE(complaint(taken(2, 0)).find("has no CUDA device"), std::string::npos);
}

}  // namespace
}  // namespace pleat
