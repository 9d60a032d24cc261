// Sums through peers' memory and through the host's, with ranks as threads over one device, or the emulator's.
#include <gtest/gtest.h>

#include <barrier>

#include "parallel/device/measured_ways.h"
#include "parallel/device/one_rank_sum.h"
#include "parallel/device/peer_sum.h"
#include "parallel/device/staged_sum.h"
#include "parallel/thread_communicator.h"
#include "sums.h"

namespace pleat {
namespace {

void expect_the_communicators(int ranks, const MakeSum& make) {
  run_ranks(ranks, [&](Communicator& communicator) { expect_its_trees(communicator, make); });
}

TEST(PeerSum, HasTheBitsOfTheCommunicatorsTrees) {
  for (const int ranks : {2, 3, 4}) expect_the_communicators(ranks, PeerSum::make);
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
      communicator.barrier("allocated");
      sum->all_reduce(stream.get(), "ffn", TreeExchange(2, 2), rows, kLong, values.data(), values.data());
      sum->wait(stream);
      EXPECT_EQ(values.to_host(stream), std::vector<float>(size_t(rows * kLong), 3.0f));
    }
  });
  EXPECT_EQ(from[0], from[1]);
}

TEST(MeasuredWays, TheSecondBeginsWhereItIsFasterEverAfter) {
  EXPECT_EQ(second_way_from({}), kNever);
  EXPECT_EQ(second_way_from(std::vector<WayTimes>{{1, 1, 2}, {2, 1, 1}}), kNever);
  EXPECT_EQ(second_way_from(std::vector<WayTimes>{{1, 2, 1}, {2, 1, 2}, {4, 4, 3}, {8, 8, 4}}), 4);
  EXPECT_EQ(second_way_from(std::vector<WayTimes>{{1, 2, 1}, {2, 3, 2}}), 1);
}

TEST(MeasuredWays, SizesGoAsFarAsMessages) {
  EXPECT_TRUE(MeasuredRows(100, 400, 1600, 4 * kMeasuredWidth - 1).none());
  const MeasuredRows some(100, 400, 1600, 10 * kMeasuredWidth);
  EXPECT_EQ(std::pair(some.first, some.last), std::pair(int64_t(4), int64_t(10)));
  EXPECT_EQ(MeasuredRows(100, 10, 1600, 100 * kMeasuredWidth).first, 1);
  EXPECT_EQ(MeasuredRows(100, 10, 1600, 100 * kMeasuredWidth).last, 16);
  EXPECT_EQ(MeasuredRows(1, 10, 1 << 30, int64_t(1) << 40).last, cuda::kAllReduceRows);
}

TEST(StagedSum, HasTheBitsOfTheCommunicatorsTrees) {
  for (const int ranks : {2, 3, 4})
    expect_the_communicators(ranks, std::make_unique<StagedSum, Communicator&, int64_t>);
}

// By the name of the sum, as far as a kernel or a copy can be asked.
TEST(DeviceSums, AreInTheLedgerByTheirName) {
  for (const MakeSum& make : {MakeSum(PeerSum::make), MakeSum(std::make_unique<StagedSum, Communicator&, int64_t>)})
    run_ranks(2, [&](Communicator& communicator) {
      const std::unique_ptr<DeviceSum> sum = make(communicator, int64_t(kSize));
      const Stream stream;
      const DeviceArray<float> values(std::vector<float>(kSize, 1), stream);
      communicator.barrier("allocated");
      const int64_t before = communicator.ledger().collectives.load();
      sum->all_reduce(stream.get(), "attention", TreeExchange(2, 2), kRows, kWidth, values.data(), values.data());
      EXPECT_EQ(communicator.ledger().collectives.load(), before + 1);
      EXPECT_EQ(communicator.ledger().collective.load(), "attention");
      EXPECT_EQ(communicator.ledger().bytes.load(), int64_t(kSize * sizeof(float)));
      sum->wait(stream);
      EXPECT_EQ(communicator.ledger().inside.load(), 0);
    });
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
  std::barrier all(3);
  try {
    run_ranks(3, [&](Communicator& communicator) {
      const std::unique_ptr<DeviceSum> sum = PeerSum::make(communicator, 12 * int64_t(kSize));
      communicator.at(12, 3);
      communicator.set_timeout(std::chrono::milliseconds(5));
      if (communicator.rank() == 1) return all.arrive_and_wait();
      sums(*sum, exchange, given(exchange, communicator.rank()), [&] { all.arrive_and_wait(); });
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::peer_lost);
    for (const char* part : {"rank 1 (host this process, pid ", "is late: last seen in step 12, layer 3", " (host ",
                             ", device 0, PCI 0000:0", " in a sum on its device, in step 12, layer 3"})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << "\n in " << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

// A rank that leaves by an error ends the others' waits at once; its own error is what is said.
TEST(PeerSum, ARanksErrorEndsAll) {
  const TreeExchange exchange(32, 3);
  std::barrier all(3);
  try {
    run_ranks(3, [&](Communicator& communicator) {
      const std::unique_ptr<DeviceSum> sum = PeerSum::make(communicator, 12 * int64_t(kSize));
      if (communicator.rank() == 1) {
        all.arrive_and_wait();
        throw Error(ErrorKind::failed, "this rank's own trouble");
      }
      sums(*sum, exchange, given(exchange, communicator.rank()), [&] { all.arrive_and_wait(); });
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "this rank's own trouble");
  }
}

}  // namespace
}  // namespace pleat
