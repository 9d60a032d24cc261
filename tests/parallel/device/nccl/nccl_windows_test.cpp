// Sums through peers' memory in NCCL's windows, with ranks as threads over the emulated devices.
#include <gtest/gtest.h>

#include "kernels/emulator/emulated_nccl.h"
#include "kernels/emulator/runtime.h"
#include "parallel/device/device_inventory.h"
#include "parallel/device/nccl_sum.h"
#include "parallel/device/peer_sum.h"
#include "parallel/thread_communicator.h"
#include "tests/parallel/device/sums.h"

namespace pleat {
namespace {

using emulator::NcclFaults;

std::unique_ptr<PeerSum> sum_in_windows(Communicator& communicator, int64_t capacity) {
  return PeerSum::over(nccl_peer_memory(start_nccl(communicator), capacity), communicator);
}

class NcclWindows : public testing::Test {
 protected:
  NcclWindows() { emulator::set_device_count(4); }
  ~NcclWindows() override {
    emulator::set_nccl_faults({});
    emulator::set_device_count(1);
  }

  // body(communicator) on every rank, which all end in order.
  static void run(int ranks, const NcclFaults& faults, const std::function<void(Communicator&)>& body) {
    emulator::set_nccl_faults(faults);
    run_ranks(ranks, [&](Communicator& communicator) {
      take_devices(communicator);
      body(communicator);
    });
    const emulator::NcclCalls calls = emulator::nccl_calls();
    EXPECT_EQ(calls.started, ranks);
    EXPECT_EQ(calls.aborted, 0);
    EXPECT_EQ(calls.destroyed, ranks);
    EXPECT_EQ(calls.destroyed_in_error, 0);
    EXPECT_EQ(calls.windows, 0);
  }
};

TEST_F(NcclWindows, SumsHaveTheBitsOfTheCommunicatorsTrees) {
  for (const int ranks : {2, 3, 4}) {
    run(ranks, {}, [](Communicator& communicator) { expect_its_trees(communicator, sum_in_windows); });
    EXPECT_EQ(emulator::nccl_calls().all_gathers + emulator::nccl_calls().all_reduces, 0);
  }
}

// Of sizes that are measured.
TEST_F(NcclWindows, ACapturedGraphMayBeRepeated) {
  constexpr int kRanks = 3, kLongRows = 4, kLongWidth = 4096;
  const TreeExchange exchange(32, kRanks);
  run(kRanks, {}, [&](Communicator& communicator) {
    const size_t size = size_t(kLongRows) * kLongWidth;
    const std::unique_ptr<PeerSum> sum = sum_in_windows(communicator, exchange.most_nodes * int64_t(size));
    const Stream stream;
    const size_t nodes = exchange.nodes[size_t(communicator.rank())].size();
    DeviceArray<float> mine(nodes * size);
    const DeviceArray<float> out(size);
    const cuda::Graph graph(stream, [&] {
      sum->all_reduce(stream.get(), "ffn", exchange, kLongRows, kLongWidth, mine.data(), out.data());
    });
    for (uint32_t call = 0; call < 3; ++call) {
      const std::vector<float> values = random_floats(nodes * size, 10 * call + uint32_t(communicator.rank()), 3.0f);
      std::vector<float> expected(size);
      communicator.tree_all_reduce("expected", exchange, values.data(), int64_t(size), expected.data());
      mine.copy_from(values, stream);
      graph.launch(stream);
      sum->wait(stream);
      EXPECT_TRUE(same_bits(out.to_host(stream), expected)) << communicator.rank() << ", repetition " << call;
    }
  });
}

TEST_F(NcclWindows, AreForAllRanksOrForNone) {
  using Kind = NcclFaults::Kind;
  for (const Kind kind : {Kind::no_window, Kind::window_refused, Kind::host_window, Kind::small_team})
    for (const int rank : {-1, 2})
      run(3, {kind, rank, 0}, [](Communicator& communicator) {
        EXPECT_EQ(sum_in_windows(communicator, 64), nullptr) << communicator.rank();
      });
}

TEST_F(NcclWindows, NcclStartsAgainWithoutThemWhereTheyComeToGrief) {
  const TreeExchange exchange(32, 3);
  for (const int rank : {-1, 2}) {
    emulator::set_nccl_faults({NcclFaults::Kind::window_fails, rank, 0});
    run_ranks(3, [&](Communicator& communicator) {
      take_devices(communicator);
      communicator.set_timeout(std::chrono::milliseconds(300));
      const std::shared_ptr<NcclCommunicator> nccl = start_nccl(communicator);
      EXPECT_EQ(nccl_peer_memory(nccl, 64), nullptr);
      communicator.set_timeout(std::chrono::seconds(60));
      const std::unique_ptr<DeviceSum> sum = nccl_sum(nccl, Reduction::invariant, 12 * int64_t(kSize));
      const std::vector<float> mine = given(exchange, communicator.rank());
      const Sums got = sums(*sum, exchange, mine), expected = expected_sums(communicator, exchange, mine);
      EXPECT_TRUE(same_bits(got.sum, expected.sum)) << communicator.rank();
      EXPECT_TRUE(same_bits(got.y, expected.y)) << communicator.rank();
    });
    const emulator::NcclCalls calls = emulator::nccl_calls();
    EXPECT_EQ(calls.started, 6);
    EXPECT_EQ(calls.aborted, 3);
    EXPECT_EQ(calls.destroyed, 3);
    EXPECT_EQ(calls.destroyed_in_error, 0);
  }
}

// Each rank takes its own NCCL down by an abort.
TEST_F(NcclWindows, ARankThatDoesNotComeIsNamed) {
  const TreeExchange exchange(32, 3);
  emulator::set_nccl_faults({});
  try {
    run_ranks(3, [&](Communicator& communicator) {
      take_devices(communicator);
      const std::unique_ptr<DeviceSum> sum = sum_in_windows(communicator, 12 * int64_t(kSize));
      communicator.at(12, 3);
      communicator.set_timeout(std::chrono::milliseconds(5));
      if (communicator.rank() == 1) throw Error(ErrorKind::peer_lost, "");
      sums(*sum, exchange, given(exchange, communicator.rank()));
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::peer_lost);
    for (const char* part : {"rank 1 (host this process, pid ", "is late: last seen in step 12, layer 3", " (host ",
                             ", device ", ", PCI 0000:0", " in a sum on its device, in step 12, layer 3"})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << "\n in " << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
  EXPECT_EQ(emulator::nccl_calls().aborted, 3);
  EXPECT_EQ(emulator::nccl_calls().destroyed, 0);
}

}  // namespace
}  // namespace pleat
