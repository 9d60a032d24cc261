// Sums by NCCL, with ranks as threads over the emulated devices. What they must be comes from the Communicator.
#include "parallel/device/nccl_sum.h"

#include <gtest/gtest.h>

#include "kernels/emulator/emulated_nccl.h"
#include "kernels/emulator/runtime.h"
#include "parallel/device/device_inventory.h"
#include "parallel/thread_communicator.h"
#include "tests/kernels/vectors.h"

namespace pleat {
namespace {

using cuda::DeviceArray;
using cuda::Stream;

struct Shape {
  int rows = 1, d = 1;
  size_t size() const { return size_t(rows) * size_t(d); }
};

// What a rank gives in call number `call`: of all sizes and signs, or whole numbers, whose sum is exact in any order.
std::vector<float> given(const TreeExchange& exchange, int rank, int call, Shape shape, bool whole = false) {
  std::vector<float> values =
      random_floats(exchange.nodes[size_t(rank)].size() * shape.size(), uint32_t(100 * call + rank), 100.0f);
  if (whole)
    for (float& value : values) value = float(int(value));
  return values;
}

std::vector<float> expected_sum(Communicator& communicator, const TreeExchange& exchange,
                                const std::vector<float>& mine, Shape shape) {
  std::vector<float> sum(shape.size());
  communicator.tree_all_reduce("expected", exchange, mine.data(), int64_t(shape.size()), sum.data());
  return sum;
}

class NcclSum : public testing::Test {
 protected:
  NcclSum() {
    emulator::set_nccl_faults({});
    emulator::set_device_count(4);
  }
  ~NcclSum() override { emulator::set_device_count(1); }

  // body(communicator, sum) on every rank, which all end in order.
  static void run(int ranks, Reduction reduction, int64_t capacity,
                  const std::function<void(Communicator&, DeviceSum&)>& body) {
    run_ranks(ranks, [&](Communicator& communicator) {
      take_devices(communicator);
      const std::unique_ptr<DeviceSum> sum = nccl_sum(start_nccl(communicator), reduction, capacity);
      body(communicator, *sum);
    });
    const emulator::NcclCalls calls = emulator::nccl_calls();
    EXPECT_EQ(calls.aborted, 0);
    EXPECT_EQ(calls.destroyed, calls.started);
    EXPECT_EQ(calls.destroyed_in_error, 0);
    EXPECT_EQ(calls.windows, 0);
  }
};

// Three calls in a row, the last one in place, without waiting for each other.
void expect_sums(Communicator& communicator, DeviceSum& sum, const TreeExchange& exchange, Shape shape, bool whole) {
  const Stream stream;
  std::vector<std::vector<float>> values;
  std::vector<DeviceArray<float>> mine, out;
  for (int call = 0; call < 3; ++call) {
    values.push_back(given(exchange, communicator.rank(), call, shape, whole));
    // A rank without nodes may still be given room for the sum.
    mine.emplace_back(std::max(values.back().size(), shape.size()));
    mine.back().copy_from(values.back(), stream);
    out.emplace_back(shape.size());
  }
  for (size_t call = 0; call < 3; ++call)
    sum.all_reduce(stream.get(), "ffn", exchange, shape.rows, shape.d, mine[call].data(),
                   call == 2 ? mine[call].data() : out[call].data());
  sum.wait(stream);
  for (size_t call = 0; call < 3; ++call) {
    std::vector<float> got = (call == 2 ? mine : out)[call].to_host(stream);
    got.resize(shape.size());
    EXPECT_TRUE(same_bits(got, expected_sum(communicator, exchange, values[call], shape)))
        << "rank " << communicator.rank() << " of " << communicator.ranks() << ", call " << call;
  }
}

TEST_F(NcclSum, HasTheBitsOfTheCommunicatorsTreesForEveryNumberOfRanks) {
  for (const int ranks : {1, 2, 3, 4})
    for (const Shape shape : {Shape{2, 301}, Shape{1, 64}}) {
      const TreeExchange heads(3, ranks), neurons(32, ranks);  // 3 leaves, 4 ranks: one has none
      const TreeExchange exchanges[] = {heads, neurons, TreeExchange(25, ranks), TreeExchange::joint(heads, neurons)};
      run(ranks, Reduction::invariant, 16 * int64_t(shape.size()), [&](Communicator& communicator, DeviceSum& sum) {
        EXPECT_TRUE(sum.in_stream_order());
        for (const TreeExchange& exchange : exchanges) expect_sums(communicator, sum, exchange, shape, false);
      });
      EXPECT_EQ(emulator::nccl_calls().all_reduces, 0);
    }
}

TEST_F(NcclSum, AddsByNcclItselfWhereOrderDoesNotMatter) {
  for (const int ranks : {2, 3, 4}) {
    emulator::set_nccl_faults({});
    const Shape shape{2, 301};
    const TreeExchange few = TreeExchange::one_sum_a_rank(3, ranks), all = TreeExchange::one_sum_a_rank(32, ranks);
    run(ranks, Reduction::fast, 2 * int64_t(shape.size()), [&](Communicator& communicator, DeviceSum& sum) {
      expect_sums(communicator, sum, few, shape, true);
      expect_sums(communicator, sum, all, shape, true);
    });
    EXPECT_EQ(emulator::nccl_calls().all_gathers, 0);
    run(ranks, Reduction::fast, 2 * int64_t(shape.size()), [&](Communicator& communicator, DeviceSum& sum) {
      expect_sums(communicator, sum, TreeExchange::joint(few, all), shape, true);
    });
  }
}

TEST_F(NcclSum, EndsWithTheResidualAdditionAndNormThatFollowIt) {
  const Shape shape{3, 256};
  const std::vector<float> before = random_floats(shape.size(), 51, 3), bias = random_floats(size_t(shape.d), 52);
  const TreeExchange exchange(25, 3);
  run(3, Reduction::invariant, 4 * int64_t(shape.size()), [&](Communicator& communicator, DeviceSum& sum) {
    const Stream stream;
    const DeviceArray<float> device_bias(bias, stream), weight(random_floats(size_t(shape.d), 53), stream);
    const cuda::Norm norm{weight.data(), nullptr, 1e-5f, false};
    for (const bool biased : {false, true}) {
      const std::vector<float> values = given(exchange, communicator.rank(), 7, shape);
      const DeviceArray<float> mine(values, stream), residual(before, stream), expected_y(shape.size());
      sum.all_reduce_add_norm(stream.get(), "ffn", exchange, shape.rows, shape.d, mine.data(),
                              biased ? device_bias.data() : nullptr, norm, residual.data(), mine.data());
      sum.wait(stream);

      std::vector<float> expected = before, added = expected_sum(communicator, exchange, values, shape);
      for (size_t i = 0; i < shape.size(); ++i) {
        if (biased) added[i] += bias[i % size_t(shape.d)];
        expected[i] += added[i];
      }
      EXPECT_TRUE(same_bits(residual.to_host(stream), expected));
      const DeviceArray<float> separate(expected, stream);
      cuda::add_norm(stream.get(), shape.rows, shape.d, {}, norm, separate.data(), expected_y.data());
      std::vector<float> y = mine.to_host(stream);
      y.resize(shape.size());
      EXPECT_TRUE(same_bits(y, expected_y.to_host(stream)));
    }
  });
}

TEST_F(NcclSum, ACapturedGraphMayBeRepeated) {
  const Shape shape{2, 300};
  for (const Reduction reduction : {Reduction::invariant, Reduction::fast}) {
    const bool fast = reduction == Reduction::fast;
    const TreeExchange exchange = fast ? TreeExchange::one_sum_a_rank(32, 3) : TreeExchange(32, 3);
    run(3, reduction, 4 * int64_t(shape.size()), [&](Communicator& communicator, DeviceSum& sum) {
      const Stream stream;
      DeviceArray<float> mine(exchange.nodes[size_t(communicator.rank())].size() * shape.size());
      const DeviceArray<float> out(shape.size()), again(shape.size());
      const cuda::Graph graph(stream, [&] {
        sum.all_reduce(stream.get(), "attention", exchange, shape.rows, shape.d, mine.data(), out.data());
        sum.all_reduce(stream.get(), "ffn", exchange, shape.rows, shape.d, mine.data(), again.data());
      });
      for (int call = 0; call < 3; ++call) {
        const std::vector<float> values = given(exchange, communicator.rank(), call, shape, fast);
        mine.copy_from(values, stream);
        graph.launch(stream);
        sum.wait(stream);
        const std::vector<float> expected = expected_sum(communicator, exchange, values, shape);
        EXPECT_TRUE(same_bits(out.to_host(stream), expected)) << "repetition " << call;
        EXPECT_TRUE(same_bits(again.to_host(stream), expected)) << "repetition " << call;
      }
    });
  }
}

TEST_F(NcclSum, AWindowIsUsedByAllRanksOrByNone) {
  const Shape shape{1, 64};
  for (const auto& [faults, windows] : {std::pair<emulator::NcclFaults, int>{{}, 3},
                                        {{emulator::NcclFaults::Kind::no_window, -1, 0}, 0},
                                        {{emulator::NcclFaults::Kind::no_window, 1, 0}, 0}}) {
    emulator::set_nccl_faults(faults);
    run(3, Reduction::invariant, 16 * int64_t(shape.size()), [&](Communicator& communicator, DeviceSum& sum) {
      communicator.barrier("started");
      EXPECT_EQ(emulator::nccl_calls().windows, windows);
      expect_sums(communicator, sum, TreeExchange(25, 3), shape, false);
    });
  }
}

}  // namespace
}  // namespace pleat
