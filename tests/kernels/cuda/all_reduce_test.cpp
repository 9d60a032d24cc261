#include "kernels/cuda/all_reduce.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "../vectors.h"
#include "all_reduce_ranks.h"
#include "kernels/layer_norm.h"
#include "trees.h"

namespace pleat::cuda {
namespace {

// The thread sanitizer takes about a millisecond to begin each thread of a block: fewer cases for it.
#ifdef __SANITIZE_THREAD__
constexpr bool kFew = true;
#else
constexpr bool kFew = false;
#endif

struct Shape {
  int rows = 1, d = 1;
  size_t size() const { return size_t(rows) * size_t(d); }
};

// What rank `rank` gives in call number `call`.
std::vector<float> given(int rank, int call, size_t count) {
  return random_floats(count, uint32_t(1000 * call + rank), 1.0f + float(rank));
}

std::vector<float> sum_in_rank_order(int ranks, int call, size_t count) {
  std::vector<float> sum = given(0, call, count);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<float> more = given(rank, call, count);
    for (size_t i = 0; i < count; ++i) sum[i] += more[i];
  }
  return sum;
}

// Every rank makes a call for each shape in turn, without waiting for its end; all outputs are compared.
void expect_sums(Ranks& ranks, const std::vector<Shape>& calls, const std::function<bool(int)>& two_shot) {
  const SumOrder order = SumOrder::by_rank(ranks.count());
  ranks.run([&](int rank, const Stream& stream) {
    Event end;
    std::vector<DeviceArray<float>> mine, out;
    for (size_t call = 0; call < calls.size(); ++call) {
      mine.emplace_back(given(rank, int(call), calls[call].size()), stream);
      out.emplace_back(calls[call].size());
    }
    ranks.meet(stream);
    for (size_t call = 0; call < calls.size(); ++call)
      all_reduce(stream.get(), ranks.side(rank, two_shot(int(call))), order, calls[call].rows, calls[call].d,
                 mine[call].data(), out[call].data());
    Ranks::wait(stream, end);
    for (size_t call = 0; call < calls.size(); ++call)
      EXPECT_TRUE(same_bits(out[call].to_host(stream), sum_in_rank_order(ranks.count(), int(call), calls[call].size())))
          << "rank " << rank << " of " << ranks.count() << ", call " << call << ", " << calls[call].rows << " x "
          << calls[call].d << (two_shot(int(call)) ? ", two-shot" : "");
    const AllReduceStatus status = ranks.status(rank);
    EXPECT_FALSE(status.failed) << "rank " << rank << ", block " << status.block << " waited for rank " << status.rank;
  });
}

TEST(AllReduce, EveryRankGetsTheSumInRankOrder) {
  for (const int count : {1, 2, 3, 4})
    for (const bool two_shot : {false, true})
      for (const int rows : {1, 5})
        for (const int d : {1, 100, 4096, 12345}) {
          if (kFew && (count != 3 || rows * d > 500)) continue;
          Ranks ranks(count, int64_t(rows) * d);
          expect_sums(ranks, std::vector<Shape>(d > 4096 ? 1 : 3, {rows, d}), [&](int) { return two_shot; });
        }
}

TEST(AllReduce, CallsOfAnyShapeMayFollowEachOther) {
  std::mt19937 generator(7);
  std::vector<Shape> calls;
  for (int i = 0; i < (kFew ? 8 : 40); ++i) calls.push_back({int(generator() % 6 + 1), int(generator() % 3000 + 1)});
  if (!kFew) calls.push_back({150, 8});  // more rows than blocks
  for (int i = 0; i < 3; ++i) calls.push_back({1, 4});
  Ranks ranks(3, 6 * 3000);
  expect_sums(ranks, calls, [](int call) { return call % 3 == 1; });
}

TEST(AllReduce, TheSumMayReplaceWhatARankGives) {
  const Shape shape{3, 2048};
  for (const bool two_shot : {false, true}) {
    Ranks ranks(2, int64_t(shape.size()));
    ranks.run([&](int rank, const Stream& stream) {
      const DeviceArray<float> x(given(rank, 0, shape.size()), stream);
      ranks.meet(stream);
      all_reduce(stream.get(), ranks.side(rank, two_shot), SumOrder::by_rank(2), shape.rows, shape.d, x.data(),
                 x.data());
      EXPECT_TRUE(same_bits(x.to_host(stream), sum_in_rank_order(2, 0, shape.size())));
    });
  }
}

TEST(AllReduce, ACapturedGraphMayBeRepeated) {
  const Shape shape{2, 1500};
  Ranks ranks(3, int64_t(shape.size()));
  const SumOrder order = SumOrder::by_rank(3);
  ranks.run([&](int rank, const Stream& stream) {
    DeviceArray<float> x(shape.size());
    const DeviceArray<float> one(shape.size()), two(shape.size()), again(shape.size());
    const Graph graph(stream, [&] {  // an odd number of calls: a repetition begins in the other half
      all_reduce(stream.get(), ranks.side(rank, false), order, shape.rows, shape.d, x.data(), one.data());
      all_reduce(stream.get(), ranks.side(rank, true), order, shape.rows, shape.d, x.data(), two.data());
      all_reduce(stream.get(), ranks.side(rank, false), order, shape.rows, shape.d, one.data(), again.data());
    });
    ranks.meet(stream);
    for (int call = 0; call < (kFew ? 2 : 4); ++call) {
      const std::vector<float> values = given(rank, call, shape.size()), sum = sum_in_rank_order(3, call, shape.size());
      std::vector<float> thrice = sum;
      for (size_t i = 0; i < sum.size(); ++i) thrice[i] = sum[i] + sum[i] + sum[i];
      x.copy_from(values, stream);
      graph.launch(stream);
      EXPECT_TRUE(same_bits(one.to_host(stream), sum)) << "rank " << rank << ", repetition " << call;
      EXPECT_TRUE(same_bits(two.to_host(stream), sum)) << "rank " << rank << ", repetition " << call;
      EXPECT_TRUE(same_bits(again.to_host(stream), thrice)) << "rank " << rank << ", repetition " << call;
    }
  });
}

TEST(AllReduce, EndsWithTheResidualAdditionAndNormThatFollowIt) {
  for (const int count : {1, 3})
    for (const bool two_shot : {false, true})
      for (const bool centred : {true, false})
        for (const Shape shape : {Shape{1, 4100}, Shape{1, 6144}, Shape{5, 321}, Shape{130, 8}}) {
          if (kFew && (count != 3 || shape.rows != 1)) continue;
          Ranks ranks(count, int64_t(shape.size()));
          const std::vector<float> before = random_floats(shape.size(), 51, 3),
                                   bias = random_floats(size_t(shape.d), 52);
          ranks.run([&](int rank, const Stream& stream) {
            const DeviceArray<float> mine(given(rank, 0, shape.size()), stream), device_bias(bias, stream),
                weight(random_floats(size_t(shape.d), 53), stream), shift(random_floats(size_t(shape.d), 54), stream),
                residual(before, stream);
            const Norm norm{weight.data(), centred ? shift.data() : nullptr, 1e-5f, centred};
            ranks.meet(stream);
            all_reduce_add_norm(stream.get(), ranks.side(rank, two_shot), SumOrder::by_rank(count), shape.rows, shape.d,
                                mine.data(), centred ? device_bias.data() : nullptr, norm, residual.data(),
                                mine.data());
            stream.wait();  // before more memory comes

            Context ctx(1, false);
            std::vector<float> sum = sum_in_rank_order(count, 0, shape.size()), added = before;
            add(ctx, {sum.data(), shape.rows, shape.d}, centred ? bias.data() : nullptr,
                {added.data(), shape.rows, shape.d});
            const DeviceArray<float> separate(added, stream), y(shape.size());
            add_norm(stream.get(), shape.rows, shape.d, {}, norm, separate.data(), y.data());
            EXPECT_TRUE(same_bits(residual.to_host(stream), added));
            EXPECT_TRUE(same_bits(mine.to_host(stream), y.to_host(stream))) << shape.rows << " x " << shape.d;
          });
        }
}

TEST(AllReduce, TreesHaveTheBitsOfTheCpuForEveryNumberOfRanks) {
  const Shape shape{2, 300};
  for (const std::vector<int>& leaves : {std::vector<int>{32}, {25}, {2}, {32, 71}}) {
    const std::vector<float> expected = Trees(leaves, 1, shape.size()).on_cpu(shape.size());
    for (const int count : {1, 2, 3, 4, 7})
      for (const bool two_shot : {false, true}) {
        if (kFew && count != 3) continue;
        const Trees trees(leaves, count, shape.size());
        ASSERT_TRUE(same_bits(trees.on_cpu(shape.size()), expected));
        const SumOrder order = SumOrder::by_trees(trees.nodes, trees.finish, trees.place);
        Ranks ranks(count, order.most_nodes * int64_t(shape.size()));
        ranks.run([&](int rank, const Stream& stream) {
          const DeviceArray<float> mine(trees.of_rank(rank), stream), out(shape.size());
          ranks.meet(stream);
          for (int epoch = 0; epoch < 3; ++epoch)
            all_reduce(stream.get(), ranks.side(rank, two_shot), order, shape.rows, shape.d, mine.data(), out.data());
          EXPECT_TRUE(same_bits(out.to_host(stream), expected))
              << "rank " << rank << " of " << count << ", " << leaves[0] << " leaves";
        });
      }
  }
}

TEST(AllReduce, RefusesMoreRanksOrTermsThanItHasRoomFor) {
  EXPECT_THROW(SumOrder::by_rank(kMaxRanks + 1), Error);
  std::vector<TreeNode> leaves;
  std::vector<int> place;
  for (int leaf = 0; leaf < kMaxTerms + 1; ++leaf) {
    leaves.push_back({leaf, leaf + 1});
    place.push_back(leaf);
  }
  EXPECT_THROW(SumOrder::by_trees({leaves}, {{kMaxTerms + 1, leaves}}, place), Error);
}

TEST(AllReduce, ARankThatNeverComesIsNamedWithinTheBound) {
  const Shape shape{5, 3000};
  for (const bool two_shot : {false, true}) {
    Ranks ranks(4, int64_t(shape.size()), 1u << 12);
    ranks.run(
        [&](int rank, const Stream& stream) {
          const DeviceArray<float> mine(given(rank, 0, shape.size()), stream);
          const DeviceArray<float> weight = filled(size_t(shape.d), 1.0f, stream);
          const DeviceArray<float> residual = filled(shape.size(), 7.0f, stream),
                                   y = filled(shape.size(), 8.0f, stream);
          const Norm norm{weight.data(), nullptr, 1e-5f, true};
          ranks.meet(stream);
          for (int call = 0; call < 2; ++call) {  // the second one ends at once
            all_reduce_add_norm(stream.get(), ranks.side(rank, two_shot), SumOrder::by_rank(4), shape.rows, shape.d,
                                mine.data(), nullptr, norm, residual.data(), y.data());
            EXPECT_EQ(residual.to_host(stream), std::vector<float>(shape.size(), 7.0f));
            EXPECT_EQ(y.to_host(stream), std::vector<float>(shape.size(), 8.0f));
            const AllReduceStatus status = ranks.status(rank);
            EXPECT_TRUE(status.failed);
            EXPECT_FALSE(status.aborted);
            EXPECT_EQ(status.rank, 2);
          }
        },
        2);
    EXPECT_FALSE(ranks.status(2).failed);
  }
}

TEST(AllReduce, TheAbortWordEndsAWait) {
  Ranks ranks(2, 100);
  std::thread aborts([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ranks.abort().store(1);
  });
  ranks.run(
      [&](int rank, const Stream& stream) {
        const DeviceArray<float> mine(given(rank, 0, 100), stream), out = filled(100, 7.0f, stream);
        all_reduce(stream.get(), ranks.side(rank, false), SumOrder::by_rank(2), 1, 100, mine.data(), out.data());
        EXPECT_EQ(out.to_host(stream), std::vector<float>(100, 7.0f));
      },
      0);
  aborts.join();
  EXPECT_TRUE(ranks.status(1).failed);
  EXPECT_TRUE(ranks.status(1).aborted);
  EXPECT_EQ(ranks.status(1).rank, 0);
  EXPECT_EQ(ranks.status(1).block, 0);
}

}  // namespace
}  // namespace pleat::cuda
