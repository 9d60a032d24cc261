// Sums through peers' memory and through the host's, with ranks as threads over one emulated device, or as processes
// with one each. What they must be
// comes from the Communicator.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "parallel/device/one_rank_sum.h"
#include "parallel/device/peer_sum.h"
#include "parallel/device/staged_sum.h"
#include "parallel/device/two_shot.h"
#include "parallel/thread_communicator.h"
#include "processes.h"
#include "tests/kernels/vectors.h"

namespace pleat {
namespace {

using cuda::DeviceArray;
using cuda::Stream;

constexpr int kRows = 3, kWidth = 100;
constexpr size_t kSize = size_t(kRows * kWidth);

// What every rank starts from and ends with, of one call.
struct Sums {
  std::vector<float> sum, residual, y;
};

std::vector<float> given(const TreeExchange& exchange, int rank) {
  return random_floats(exchange.nodes[size_t(rank)].size() * kSize, uint32_t(rank), 10.0f);
}

Sums sums(DeviceSum& device, const TreeExchange& exchange, const std::vector<float>& mine) {
  const Stream stream;
  const DeviceArray<float> bias(random_floats(kWidth, 52), stream), weight(random_floats(kWidth, 53), stream),
      residual(random_floats(kSize, 51), stream), out(kSize);
  // A rank without nodes may still be given room for what follows.
  DeviceArray<float> nodes(std::max(mine.size(), kSize));
  nodes.copy_from(mine, stream);
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
Sums expected_sums(Communicator& communicator, const TreeExchange& exchange, const std::vector<float>& mine) {
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

void expect_its_trees(Communicator& communicator, const MakeSum& make) {
  const int ranks = communicator.ranks();
  const TreeExchange heads(3, ranks), neurons(32, ranks);  // 3 leaves, 4 ranks: one has none
  const TreeExchange exchanges[] = {heads, neurons, TreeExchange(25, ranks), TreeExchange::joint(heads, neurons),
                                    TreeExchange::one_sum_a_rank(32, ranks)};
  const std::unique_ptr<DeviceSum> sum = make(communicator, 12 * int64_t(kSize));
  ASSERT_NE(sum, nullptr);
  for (const TreeExchange& exchange : exchanges) {
    const std::vector<float> mine = given(exchange, communicator.rank());
    const Sums got = sums(*sum, exchange, mine), expected = expected_sums(communicator, exchange, mine);
    EXPECT_TRUE(same_bits(got.sum, expected.sum)) << communicator.rank() << " of " << ranks;
    EXPECT_TRUE(same_bits(got.residual, expected.residual)) << communicator.rank() << " of " << ranks;
    EXPECT_TRUE(same_bits(got.y, expected.y)) << communicator.rank() << " of " << ranks;
  }
}

void expect_the_communicators(int ranks, const MakeSum& make) {
  run_ranks(ranks, [&](Communicator& communicator) { expect_its_trees(communicator, make); });
}

TEST(PeerSum, HasTheBitsOfTheCommunicatorsTrees) {
  for (const int ranks : {2, 3, 4}) expect_the_communicators(ranks, PeerSum::make);
}

TEST(PeerSum, HasTheBitsOfTheCommunicatorsTreesBetweenProcesses) {
  for (const int ranks : {2, 3})
    run_processes(ranks, [](Communicator& communicator) { expect_its_trees(communicator, PeerSum::make); });
}

TEST(PeerSum, IsNoRanksWhereOneProcessCannotShareItsMemory) {
  run_processes(3, [](Communicator& communicator) {
    const rlimit no_files{};
    if (communicator.rank() == 1) setrlimit(RLIMIT_NOFILE, &no_files);
    EXPECT_EQ(PeerSum::make(communicator, 64), nullptr) << communicator.rank();
  });
}

// Sizes that are measured; then all ranks must go the same way.
TEST(PeerSum, AllRanksTakeTwoShotsFromTheSameSizeOn) {
  constexpr int kLong = 4096;
  int64_t from[2] = {-1, -2};
  run_ranks(2, [&](Communicator& communicator) {
    const std::unique_ptr<PeerSum> sum = PeerSum::make(communicator, 8 * kLong);
    from[communicator.rank()] = sum->two_shot_bytes();
    const Stream stream;
    for (const int rows : {1, 4, 8}) {
      const DeviceArray<float> values(std::vector<float>(size_t(rows * kLong), 1.5f), stream);
      sum->all_reduce(stream.get(), "ffn", TreeExchange(2, 2), rows, kLong, values.data(), values.data());
      sum->wait(stream);
      EXPECT_EQ(values.to_host(stream), std::vector<float>(size_t(rows * kLong), 3.0f));
    }
  });
  EXPECT_EQ(from[0], from[1]);
}

TEST(TwoShot, BeginsWhereItIsFasterEverAfter) {
  EXPECT_EQ(two_shots_from({}), kNeverTwoShot);
  EXPECT_EQ(two_shots_from(std::vector<ShotTimes>{{1, 1, 2}, {2, 1, 1}}), kNeverTwoShot);
  EXPECT_EQ(two_shots_from(std::vector<ShotTimes>{{1, 2, 1}, {2, 1, 2}, {4, 4, 3}, {8, 8, 4}}), 4);
  EXPECT_EQ(two_shots_from(std::vector<ShotTimes>{{1, 2, 1}, {2, 3, 2}}), 1);
}

TEST(StagedSum, HasTheBitsOfTheCommunicatorsTrees) {
  for (const int ranks : {2, 3, 4})
    expect_the_communicators(ranks, std::make_unique<StagedSum, Communicator&, int64_t>);
}

TEST(OneRankSum, AddsItsOwnNodes) {
  run_ranks(1, [](Communicator& communicator) {
    OneRankSum sum;
    const TreeExchange heads(3, 1), neurons(32, 1), both = TreeExchange::joint(heads, neurons);
    const std::vector<float> one = given(heads, 0), two = given(both, 0);
    EXPECT_TRUE(same_bits(sums(sum, heads, one).sum, expected_sums(communicator, heads, one).sum));
    const Stream stream;
    const DeviceArray<float> nodes(two, stream), residual(random_floats(kSize, 51), stream), y(kSize),
        bias(random_floats(kWidth, 52), stream), weight(random_floats(kWidth, 53), stream);
    sum.all_reduce_add_norm(stream.get(), "both", both, kRows, kWidth, nodes.data(), bias.data(), {weight.data()},
                            residual.data(), y.data());
    const Sums expected = expected_sums(communicator, both, two);
    EXPECT_TRUE(same_bits(residual.to_host(stream), expected.residual));
    EXPECT_TRUE(same_bits(y.to_host(stream), expected.y));
  });
}

// One call is missing: the others give up, in one line that names the rank.
TEST(PeerSum, ARankThatDoesNotComeIsNamed) {
  const TreeExchange exchange(32, 3);
  try {
    run_ranks(3, [&](Communicator& communicator) {
      const std::unique_ptr<DeviceSum> sum = PeerSum::make(communicator, 12 * int64_t(kSize));
      communicator.set_timeout(std::chrono::milliseconds(5));
      if (communicator.rank() == 1) return;
      sums(*sum, exchange, given(exchange, communicator.rank()));
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::peer_lost);
    EXPECT_NE(std::string(error.what()).find("rank 1"), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

// A rank that leaves by an error ends the others' waits at once; its own error is what is said.
TEST(PeerSum, ARanksErrorEndsAll) {
  const TreeExchange exchange(32, 3);
  try {
    run_ranks(3, [&](Communicator& communicator) {
      const std::unique_ptr<DeviceSum> sum = PeerSum::make(communicator, 12 * int64_t(kSize));
      if (communicator.rank() == 1) throw Error(ErrorKind::failed, "this rank's own trouble");
      sums(*sum, exchange, given(exchange, communicator.rank()));
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "this rank's own trouble");
  }
}

}  // namespace
}  // namespace pleat
