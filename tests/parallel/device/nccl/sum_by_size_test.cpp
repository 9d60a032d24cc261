// Peers' sums and NCCL's in one job, by size, with ranks as threads over the emulated devices.
#include "parallel/device/sum_by_size.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

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
using namespace std::chrono_literals;

constexpr int kRanks = 2, kLongRows = 16, kLongWidth = 4096;  // the smallest size that is measured
constexpr int64_t kLongSize = int64_t(kLongRows) * kLongWidth;

// Another sum, whose calls take so much longer.
class Slow final : public DeviceSum {
 public:
  explicit Slow(std::unique_ptr<DeviceSum> sum) : sum_(std::move(sum)) {}
  void all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                  const float* mine, float* out) override {
    std::this_thread::sleep_for(300ms);
    sum_->all_reduce(stream, name, exchange, rows, d, mine, out);
  }
  void all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                           float* y) override {
    sum_->all_reduce_add_norm(stream, name, exchange, rows, d, mine, bias, norm, residual, y);
  }
  void wait(const Stream& stream) override { sum_->wait(stream); }
  bool in_stream_order() const override { return sum_->in_stream_order(); }
  std::string way() const override { return sum_->way(); }

 private:
  std::unique_ptr<DeviceSum> sum_;
};

enum class Slower { peers, nccl };

std::unique_ptr<DeviceSum> make(Communicator& communicator, Slower slower, Reduction reduction = Reduction::invariant) {
  const std::shared_ptr<NcclCommunicator> started = start_nccl(communicator);
  std::unique_ptr<DeviceSum> peers = PeerSum::over(nccl_peer_memory(started, kLongSize), communicator),
                             nccl = nccl_sum(started, reduction, kLongSize);
  std::unique_ptr<DeviceSum>& slow = slower == Slower::peers ? peers : nccl;
  slow = std::make_unique<Slow>(std::move(slow));
  return SumBySize::make(communicator, std::move(peers), std::move(nccl), reduction, kLongSize);
}

class BySize : public testing::Test {
 protected:
  BySize() {
    emulator::set_nccl_faults({});
    emulator::set_device_count(kRanks);
  }
  ~BySize() override {
    emulator::set_nccl_faults({});
    emulator::set_device_count(1);
  }

  static void run(const std::function<void(Communicator&)>& body) {
    run_ranks(kRanks, [&](Communicator& communicator) {
      take_devices(communicator);
      body(communicator);
    });
  }

  // NCCL's collectives of all ranks during `work`.
  static int collectives(Communicator& communicator, const std::function<void()>& work) {
    const auto count = [&] {
      communicator.barrier("before");
      const emulator::NcclCalls calls = emulator::nccl_calls();
      communicator.barrier("counted");
      return calls.all_gathers + calls.all_reduces;
    };
    const int before = count();
    work();
    return count() - before;
  }

  // The tree's sum; of whole numbers, whose sum is exact in any order.
  static void expect_sum(Communicator& communicator, DeviceSum& sum, const TreeExchange& exchange, int rows, int d,
                         bool whole = false) {
    const size_t size = size_t(rows) * size_t(d), nodes = exchange.nodes[size_t(communicator.rank())].size();
    std::vector<float> values = random_floats(nodes * size, uint32_t(communicator.rank()), 100.0f), expected(size);
    if (whole)
      for (float& value : values) value = float(int(value));
    communicator.tree_all_reduce("expected", exchange, values.data(), int64_t(size), expected.data());
    const Stream stream;
    const DeviceArray<float> mine(values, stream), out(size);
    sum.all_reduce(stream.get(), "ffn", exchange, rows, d, mine.data(), out.data());
    sum.wait(stream);
    EXPECT_TRUE(same_bits(out.to_host(stream), expected)) << rows << " x " << d;
  }
};

TEST_F(BySize, SmallSumsArePeersAndLargeOnesNccls) {
  run([](Communicator& communicator) {
    const std::unique_ptr<DeviceSum> sum = make(communicator, Slower::peers);
    EXPECT_EQ(sum->way(), "peers, NCCL from 256 KiB on");
    EXPECT_TRUE(sum->in_stream_order());
    const TreeExchange exchange(32, kRanks);
    const auto expect = [&](int rows, int by_nccl) {
      const auto work = [&] { expect_sum(communicator, *sum, exchange, rows, kLongWidth); };
      EXPECT_EQ(collectives(communicator, work), by_nccl) << rows << " rows";
    };
    expect(kLongRows - 1, 0);
    expect(kLongRows, kRanks);
  });
}

TEST_F(BySize, HasTheBitsOfTheCommunicatorsTrees) {
  run([](Communicator& communicator) {
    expect_its_trees(communicator, [](Communicator& ranks, int64_t) { return make(ranks, Slower::peers); });
  });
}

TEST_F(BySize, OneGraphCapturesBothWays) {
  run([](Communicator& communicator) {
    const std::unique_ptr<DeviceSum> sum = make(communicator, Slower::peers);
    const TreeExchange exchange(32, kRanks);
    const Stream stream;
    DeviceArray<float> mine(kLongSize);
    const DeviceArray<float> small(kLongWidth), large(kLongSize);
    const cuda::Graph graph(stream, [&] {
      sum->all_reduce(stream.get(), "ffn", exchange, 1, kLongWidth, mine.data(), small.data());
      sum->all_reduce(stream.get(), "ffn", exchange, kLongRows, kLongWidth, mine.data(), large.data());
      sum->all_reduce(stream.get(), "ffn", exchange, 1, kLongWidth, large.data(), small.data());
    });
    for (uint32_t call = 0; call < 2; ++call) {
      const std::vector<float> values = random_floats(kLongSize, 10 * call + uint32_t(communicator.rank()), 3.0f);
      std::vector<float> expected(kLongSize);
      communicator.tree_all_reduce("expected", exchange, values.data(), kLongSize, expected.data());
      mine.copy_from(values, stream);
      graph.launch(stream);
      sum->wait(stream);
      EXPECT_TRUE(same_bits(large.to_host(stream), expected)) << call;
      expected.resize(kLongWidth);
      for (float& value : expected) value += value;  // two ranks that have the same
      EXPECT_TRUE(same_bits(small.to_host(stream), expected)) << call;
    }
  });
}

TEST_F(BySize, NcclIsGivenBackWhereItIsNoFaster) {
  run([](Communicator& communicator) {
    const std::unique_ptr<DeviceSum> sum = make(communicator, Slower::nccl);
    EXPECT_EQ(sum->way(), "peers");
    communicator.barrier("made");
    EXPECT_EQ(emulator::nccl_calls().windows, kRanks);  // peers' alone
    communicator.barrier("counted");
  });
  EXPECT_EQ(emulator::nccl_calls().aborted, 0);
  EXPECT_EQ(emulator::nccl_calls().destroyed, kRanks);
}

TEST_F(BySize, OfFastSumsNcclHasThoseThatItAdds) {
  run([](Communicator& communicator) {
    const std::unique_ptr<DeviceSum> sum = make(communicator, Slower::peers, Reduction::fast);
    const TreeExchange one = TreeExchange::one_sum_a_rank(32, kRanks), two = TreeExchange::joint(one, one);
    const auto by_nccl = [&](const TreeExchange& exchange, int rows) {
      return collectives(communicator,
                         [&] { expect_sum(communicator, *sum, exchange, rows, kLongWidth, /*whole=*/true); });
    };
    EXPECT_EQ(by_nccl(one, kLongRows), kRanks);
    EXPECT_EQ(by_nccl(two, kLongRows / 2), 0);
  });
}

TEST(SumBySize, NeedsMessagesLongEnoughToMeasure) {
  EXPECT_FALSE(SumBySize::may_help(kLongSize - 1));
  EXPECT_TRUE(SumBySize::may_help(kLongSize));
}

// Whichever way the sum goes that a rank waits in for another, the other is named in one line.
TEST_F(BySize, ARankThatDoesNotComeIsNamed) {
  for (const bool by_nccl : {false, true}) {
    const int rows = by_nccl ? kLongRows : 1, d = by_nccl ? kLongWidth : 4;
    emulator::set_nccl_faults({});
    try {
      run([&](Communicator& communicator) {
        const std::unique_ptr<DeviceSum> sum = make(communicator, Slower::peers);
        const Stream stream;
        const DeviceArray<float> values(std::vector<float>(kLongSize, 1), stream);
        communicator.at(12, 3);
        communicator.set_timeout(5ms);
        if (communicator.rank() == 1) throw Error(ErrorKind::peer_lost, "");
        sum->all_reduce(stream.get(), "ffn", TreeExchange(32, kRanks), rows, d, values.data(), values.data());
        sum->wait(stream);
      });
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::peer_lost);
      for (const char* part : {"rank 1 (host this process, pid ", "is late: last seen in step 12, layer 3", " (host ",
                               ", device 0, PCI 0000:01:00.0", by_nccl ? "the last error" : " in a sum on its device"})
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << "\n in " << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
    EXPECT_EQ(emulator::nccl_calls().aborted, kRanks);
  }
}

}  // namespace
}  // namespace pleat
