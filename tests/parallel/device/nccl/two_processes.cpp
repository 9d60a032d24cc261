// The real NCCL between two processes that share one device: NCCL refuses two ranks of one host on one device, so each
// process says that it is another host, and NCCL goes over sockets. It shows that ids, starts, windows, graphs and ends
// work between processes, and that ranks of two hosts do not take each other's windows to be in reach; its times are a
// network's.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>

#include "kernels/cuda/device.h"
#include "parallel/device/nccl_sum.h"
#include "parallel/device/peer_memory.h"
#include "tests/parallel/device/processes.h"

namespace pleat {
namespace {

constexpr int kRanks = 2, kRows = 2, kWidth = 2048, kRounds = 50;  // 16 KB a sum

std::vector<float> values_of(int rank, int round) {
  std::vector<float> values(kRows * kWidth);
  for (size_t i = 0; i < values.size(); ++i) values[i] = float((int64_t(i) * 37 + rank * 101 + round * 13) % 2003) / 7;
  return values;
}

void expect_sum(const cuda::DeviceArray<float>& out, const cuda::Stream& stream, int round) {
  const std::vector<float> a = values_of(0, round), b = values_of(1, round), got = out.to_host(stream);
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], a[i] + b[i]) << "round " << round << ", " << i;
}

void sum_on_one_device(Communicator& communicator, Reduction reduction) {
  const std::unique_ptr<DeviceSum> sum = nccl_sum(start_nccl(communicator), reduction, kRows * kWidth);
  const TreeExchange exchange(kRanks, kRanks);
  const cuda::Stream stream;
  cuda::DeviceArray<float> out(kRows * kWidth);
  double seconds = 0;
  for (int round = 0; round < kRounds; ++round) {
    const cuda::DeviceArray<float> mine(values_of(communicator.rank(), round), stream);
    stream.wait();
    const auto start = std::chrono::steady_clock::now();
    sum->all_reduce(stream.get(), "ffn", exchange, kRows, kWidth, mine.data(), out.data());
    sum->wait(stream);
    if (round > 0) seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    expect_sum(out, stream, round);
  }
  cuda::DeviceArray<float> mine(kRows * kWidth);
  const cuda::Graph graph(
      stream, [&] { sum->all_reduce(stream.get(), "ffn", exchange, kRows, kWidth, mine.data(), out.data()); });
  for (int round = kRounds; round < kRounds + 3; ++round) {
    const std::vector<float> values = values_of(communicator.rank(), round);
    mine.copy_from(values, stream);
    graph.launch(stream);
    sum->wait(stream);
    expect_sum(out, stream, round);
  }
  if (communicator.rank() == 0)
    std::printf(R"({"nccl_processes": %d, "reduction": "%s", "bytes": %zu, "us": %.1f})"
                "\n",
                kRanks, reduction == Reduction::fast ? "fast" : "invariant", size_t(kRows) * kWidth * sizeof(float),
                1e6 * seconds / (kRounds - 1));
}

// This process must not have asked for a device: it forks.
void run_on_two_hosts(const std::function<void(Communicator&)>& body) {
  if (const std::string why = said_by_a_process(cuda::why_no_device); !why.empty()) GTEST_SKIP() << why;
  run_processes(kRanks, [&](Communicator& communicator) {
    setenv("NCCL_HOSTID", communicator.rank() == 0 ? "pleat-test-a" : "pleat-test-b", 1);
    setenv("NCCL_SOCKET_IFNAME", "lo", 0);
    body(communicator);
  });
}

TEST(TwoProcesses, SumOnOneDevice) {
  run_on_two_hosts([](Communicator& communicator) {
    for (const Reduction reduction : {Reduction::invariant, Reduction::fast})
      sum_on_one_device(communicator, reduction);
  });
}

TEST(TwoProcesses, AreOutOfReachOfEachOthersWindows) {
  run_on_two_hosts([](Communicator& communicator) {
    const std::shared_ptr<NcclCommunicator> nccl = start_nccl(communicator);
    EXPECT_EQ(nccl_peer_memory(nccl, 64), nullptr);
    const std::unique_ptr<DeviceSum> sum = nccl_sum(nccl, Reduction::invariant, 64);  // which it can do all the same
    const cuda::Stream stream;
    const cuda::DeviceArray<float> values(std::vector<float>(64, 1.5f), stream);
    sum->all_reduce(stream.get(), "ffn", TreeExchange(kRanks, kRanks), 1, 64, values.data(), values.data());
    sum->wait(stream);
    EXPECT_EQ(values.to_host(stream), std::vector<float>(64, 3.0f));
  });
}

}  // namespace
}  // namespace pleat
