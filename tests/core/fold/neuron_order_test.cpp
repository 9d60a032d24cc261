#include "core/fold/neuron_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace pleat {
namespace {

TEST(NeuronOrder, IsAPermutationWhoseShardsExpectTheSameWork) {
  std::mt19937_64 random(4);
  std::exponential_distribution<double> frequency(20);
  for (const int64_t neurons : {1280, 1303, 6400}) {
    std::vector<double> work;
    for (int64_t n = 0; n < neurons; ++n) work.push_back(n % 3 == 0 ? 0 : std::min(1.0, frequency(random)));
    const std::vector<int32_t> order = balanced_order(work, 32);
    std::vector<int32_t> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    for (int64_t n = 0; n < neurons; ++n) ASSERT_EQ(sorted[size_t(n)], n);

    const double mean = std::accumulate(work.begin(), work.end(), 0.0) / 32;
    for (int64_t shard = 0; shard < 32; ++shard) {
      double sum = 0, before = 1;
      for (int64_t place = neurons * shard / 32; place < neurons * (shard + 1) / 32; ++place) {
        const double mine = work[size_t(order[size_t(place)])];
        EXPECT_LE(mine, before) << "not the heaviest first";
        before = mine;
        sum += mine;
      }
      EXPECT_LT(sum, 1.05 * mean);
      EXPECT_GT(sum, 0.95 * mean);
    }
  }
}

TEST(NeuronOrder, WorksWithFewerNeuronsThanShards) {
  const std::vector<double> work = {3, 1, 2};
  std::vector<int32_t> order = balanced_order(work, 32);
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, (std::vector<int32_t>{0, 1, 2}));
}

}  // namespace
}  // namespace pleat
