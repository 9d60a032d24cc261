#pragma once
// What sums over devices must be: what a Communicator's are.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "parallel/device/device_sum.h"
#include "tests/kernels/vectors.h"

namespace pleat {

using cuda::DeviceArray;
using cuda::Stream;

constexpr int kRows = 3, kWidth = 100;
constexpr size_t kSize = size_t(kRows * kWidth);

// What every rank starts from and ends with, of one call.
struct Sums {
  std::vector<float> sum, residual, y;
};

inline std::vector<float> given(const TreeExchange& exchange, int rank) {
  return random_floats(exchange.nodes[size_t(rank)].size() * kSize, uint32_t(rank), 10.0f);
}

// meet: where ranks share a device, waits for all of them: behind their allocations, which may wait for kernels, and
// before a kernel that waits for another rank's.
inline Sums sums(
    DeviceSum& device, const TreeExchange& exchange, const std::vector<float>& mine,
    const std::function<void()>& meet = [] {}) {
  const Stream stream;
  const DeviceArray<float> bias(random_floats(kWidth, 52), stream), weight(random_floats(kWidth, 53), stream),
      residual(random_floats(kSize, 51), stream), out(kSize);
  // A rank without nodes may still be given room for what follows.
  DeviceArray<float> nodes(std::max(mine.size(), kSize));
  nodes.copy_from(mine, stream);
  stream.wait();
  meet();
  Sums got;
  device.all_reduce(stream.get(), "ffn", exchange, kRows, kWidth, nodes.data(), out.data());
  device.wait(stream);
  got.sum = out.to_host(stream);
  device.all_reduce_add_norm(stream.get(), "ffn", exchange, kRows, kWidth, nodes.data(), bias.data(), {weight.data()},
                             residual.data(), nodes.data());
  device.wait(stream);
  got.residual = residual.to_host(stream);
  got.y = nodes.to_host(stream);
  got.y.resize(kSize);
  return got;
}

// From the Communicator's sum, the additions and the norm one after the other.
inline Sums expected_sums(Communicator& communicator, const TreeExchange& exchange, const std::vector<float>& mine) {
  const Stream stream;
  Sums expected{std::vector<float>(kSize), random_floats(kSize, 51), {}};
  communicator.tree_all_reduce("expected", exchange, mine.data(), int64_t(kSize), expected.sum.data());
  const std::vector<float> bias = random_floats(kWidth, 52);
  for (size_t i = 0; i < kSize; ++i) expected.residual[i] += expected.sum[i] + bias[i % kWidth];
  const DeviceArray<float> weight(random_floats(kWidth, 53), stream), residual(expected.residual, stream), y(kSize);
  cuda::add_norm(stream.get(), kRows, kWidth, {}, {weight.data()}, residual.data(), y.data());
  expected.y = y.to_host(stream);
  return expected;
}

using MakeSum = std::function<std::unique_ptr<DeviceSum>(Communicator&, int64_t)>;

inline void expect_its_trees(Communicator& communicator, const MakeSum& make) {
  const int ranks = communicator.ranks();
  const TreeExchange heads(3, ranks), neurons(32, ranks);  // 3 leaves, 4 ranks: one has none
  const TreeExchange exchanges[] = {heads, neurons, TreeExchange(25, ranks), TreeExchange::joint(heads, neurons),
                                    TreeExchange::one_sum_a_rank(32, ranks)};
  const std::unique_ptr<DeviceSum> sum = make(communicator, 12 * int64_t(kSize));
  ASSERT_NE(sum, nullptr);
  for (const TreeExchange& exchange : exchanges) {
    const std::vector<float> mine = given(exchange, communicator.rank());
    const Sums got = sums(*sum, exchange, mine, [&] { communicator.barrier("allocated"); }),
               expected = expected_sums(communicator, exchange, mine);
    EXPECT_TRUE(same_bits(got.sum, expected.sum)) << communicator.rank() << " of " << ranks;
    EXPECT_TRUE(same_bits(got.residual, expected.residual)) << communicator.rank() << " of " << ranks;
    EXPECT_TRUE(same_bits(got.y, expected.y)) << communicator.rank() << " of " << ranks;
  }
}

}  // namespace pleat
