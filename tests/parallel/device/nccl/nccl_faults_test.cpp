// What goes wrong in NCCL ends within the deadline, in one line that names everything, by an abort.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "kernels/emulator/emulated_nccl.h"
#include "kernels/emulator/runtime.h"
#include "parallel/device/device_inventory.h"
#include "parallel/device/nccl_sum.h"
#include "parallel/thread_communicator.h"

namespace pleat {
namespace {

using emulator::NcclFaults;
using namespace std::chrono_literals;

constexpr int kRanks = 3;
// The thread sanitizer takes about a millisecond to begin each thread of a block.
#ifdef __SANITIZE_THREAD__
constexpr std::chrono::seconds kDeadline = 10s;
const std::string kInTime = "within 10.0 s";
#else
constexpr std::chrono::seconds kDeadline = 1s;
const std::string kInTime = "within 1.0 s";
#endif

class NcclFault : public testing::Test {
 protected:
  NcclFault() {
    emulator::set_device_count(kRanks);
    setenv("NCCL_SOCKET_IFNAME", "ib0", 1);
  }
  ~NcclFault() override {
    emulator::set_nccl_faults({});
    emulator::set_device_count(1);
    unsetenv("NCCL_SOCKET_IFNAME");
  }

  // What the ranks say, each with a NCCL of its own, of which one may stay away; a silent one says "".
  static std::vector<std::string> what_ranks_say(const NcclFaults& faults,
                                                 const std::function<void(Communicator&, DeviceSum&)>& body,
                                                 int absent = -1) {
    emulator::set_nccl_faults(faults);
    std::vector<std::string> said(kRanks, "nothing is wrong");
    const auto start = std::chrono::steady_clock::now();
    run_ranks(kRanks, [&](Communicator& communicator) {
      communicator.set_timeout(kDeadline);
      communicator.at(12, 3);
      take_devices(communicator);
      if (communicator.rank() == absent) return;
      try {
        const std::unique_ptr<DeviceSum> sum = nccl_sum(start_nccl(communicator), Reduction::invariant, 2000);
        body(communicator, *sum);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::peer_lost) << error.what();
        said[size_t(communicator.rank())] = error.what();
      }
    });
    EXPECT_LT(std::chrono::steady_clock::now() - start, 4 * kDeadline);
    const emulator::NcclCalls calls = emulator::nccl_calls();
    EXPECT_EQ(calls.aborted, calls.started);
    EXPECT_EQ(calls.destroyed, 0);
    return said;
  }

  static void sum_and_wait(Communicator& communicator, DeviceSum& sum, int calls) {
    const TreeExchange exchange(32, kRanks);
    const cuda::Stream stream;
    const cuda::DeviceArray<float> mine(exchange.nodes[size_t(communicator.rank())].size() * 100), out(100);
    for (int call = 0; call < calls; ++call) {
      sum.all_reduce(stream.get(), "ffn", exchange, 1, 100, mine.data(), out.data());
      sum.wait(stream);
    }
  }

  // The one line that was said, by whatever rank; the others are silent.
  static std::string only_line(const std::vector<std::string>& said) {
    std::string line;
    for (const std::string& each : said) {
      if (each.empty() || each == "nothing is wrong") continue;
      EXPECT_EQ(line, "") << each;
      line = each;
    }
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
    return line;
  }
};

void expect_all_in(const std::string& line, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(line.find(part), std::string::npos) << part << "\n in " << line;
}

TEST_F(NcclFault, AStartThatNeverEndsIsGivenUpOnAllRanks) {
  const std::string line =
      only_line(what_ranks_say({NcclFaults::Kind::init_never_ends}, [](Communicator&, DeviceSum&) {}));
  expect_all_in(line, {" (host ", ", device ", ", PCI 0000:0", ", interface ib0)", "in step 12, layer 3",
                       "NCCL's start did not end " + kInTime + " though no rank is late", "NCCL 2."});
}

TEST_F(NcclFault, AStartThatOneRankNeverEndsIsGivenUpByAll) {
  const std::vector<std::string> said =
      what_ranks_say({NcclFaults::Kind::init_never_ends, 2, 0}, [](Communicator&, DeviceSum&) {});
  // By itself, or by one that waits for it: both deadlines end at the same time.
  const std::string line = only_line(said);
  const bool by_another = line.find(" is late: ") != std::string::npos;
  expect_all_in(line, {"rank 2 (host ",
                       by_another ? "after collective 'NCCL's id'; rank " : "NCCL's start did not end " + kInTime});
  for (const std::string& each : said) EXPECT_NE(each, "nothing is wrong");
}

TEST_F(NcclFault, ARankThatNeverComesToTheStartIsNamed) {
  const std::string line = only_line(what_ranks_say(
      {}, [](Communicator&, DeviceSum&) {}, 1));
  expect_all_in(line, {"rank 1 (host this process, pid ", "is late: last seen in step 12, layer 3"});
}

TEST_F(NcclFault, ARankThatLeavesIsNamedByThoseWhoWait) {
  const std::string line = only_line(what_ranks_say({}, [](Communicator& communicator, DeviceSum& sum) {
    sum_and_wait(communicator, sum, communicator.rank() == 1 ? 1 : 2);
  }));
  expect_all_in(line,
                {"rank 1 (host this process, pid ", "is late: last seen in step 12, layer 3, after collective 'device'",
                 "; rank ", " (host ", "PCI 0000:0", "interface ib0", "the device's work did not end " + kInTime});
}

TEST_F(NcclFault, ACollectiveThatNeverEndsIsGivenUp) {
  const std::string line =
      only_line(what_ranks_say({NcclFaults::Kind::collective_never_ends, -1, 2},
                               [](Communicator& communicator, DeviceSum& sum) { sum_and_wait(communicator, sum, 3); }));
  expect_all_in(line,
                {" (host ", ", device ", ", PCI 0000:0", ", interface ib0)", "in step 12, layer 3, collective 'device'",
                 "the device's work did not end " + kInTime + " though no rank is late"});
}

TEST_F(NcclFault, AnErrorThatNcclMeetsIsSaidAtOnceByItsRank) {
  std::chrono::nanoseconds until_error{};
  const std::vector<std::string> said =
      what_ranks_say({NcclFaults::Kind::async_error, 2, 1}, [&](Communicator& communicator, DeviceSum& sum) {
        const auto start = std::chrono::steady_clock::now();
        try {
          sum_and_wait(communicator, sum, 2);
        } catch (const Error&) {
          if (communicator.rank() == 2) until_error = std::chrono::steady_clock::now() - start;
          throw;
        }
      });
  EXPECT_LT(until_error, kDeadline);
  EXPECT_EQ(said[2].find('\n'), std::string::npos);
  expect_all_in(said[2], {"rank 2 (host ", ", device 2, PCI 0000:03:00.0, interface ib0)", "in step 12, layer 3",
                          "the device's work failed: remote process exited", "a connection was closed by its peer"});
  EXPECT_TRUE(said[0].empty() != said[1].empty());  // one of them speaks when the deadline comes
}

TEST_F(NcclFault, InAGraphIsSaidBeforeNcclHasLetTheGraphGo) {
  std::atomic<int> in_time = 0;
  const std::string line = only_line(
      what_ranks_say({NcclFaults::Kind::collective_never_ends, -1, 0}, [&](Communicator& communicator, DeviceSum& sum) {
        const TreeExchange exchange(32, kRanks);
        const cuda::Stream stream;
        const cuda::DeviceArray<float> mine(exchange.nodes[size_t(communicator.rank())].size() * 100), out(100);
        const cuda::Graph graph(
            stream, [&] { sum.all_reduce(stream.get(), "ffn", exchange, 1, 100, mine.data(), out.data()); });
        graph.launch(stream);
        const auto start = std::chrono::steady_clock::now();
        try {
          sum.wait(stream);
        } catch (const Error&) {
          in_time += std::chrono::steady_clock::now() - start < 2 * kDeadline;
          throw;
        }
      }));
  EXPECT_EQ(in_time, kRanks);
  expect_all_in(line, {"the device's work did not end " + kInTime});
}

TEST_F(NcclFault, WhatFollowsATroubleEndsAtOnceAndInSilence) {
  const std::vector<std::string> said =
      what_ranks_say({NcclFaults::Kind::collective_never_ends}, [](Communicator& communicator, DeviceSum& sum) {
        EXPECT_THROW(sum_and_wait(communicator, sum, 1), Error);
        const auto start = std::chrono::steady_clock::now();
        while (emulator::nccl_calls().aborted < kRanks && std::chrono::steady_clock::now() - start < kDeadline)
          std::this_thread::yield();
        EXPECT_EQ(emulator::nccl_calls().aborted, kRanks);  // at once, not when it is taken down
        sum_and_wait(communicator, sum, 1);
      });
  EXPECT_EQ(said, std::vector<std::string>(kRanks, ""));
}

}  // namespace
}  // namespace pleat
