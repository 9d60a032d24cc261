#include "kernels/cuda/gathered_sum.h"

#include <gtest/gtest.h>

#include <cmath>

#include "../vectors.h"
#include "kernels/layer_norm.h"
#include "trees.h"

namespace pleat::cuda {
namespace {

// The ranks' nodes as an all-gather leaves them: NaN where a rank has fewer than the others.
std::vector<float> gathered(const Trees& trees, const SumOrder& order, size_t n) {
  std::vector<float> all(size_t(order.ranks * order.most_nodes) * n, NAN);
  for (int rank = 0; rank < order.ranks; ++rank) {
    const std::vector<float> mine = trees.of_rank(rank);
    std::copy(mine.begin(), mine.end(), all.begin() + int64_t(size_t(rank * order.most_nodes) * n));
  }
  return all;
}

TEST(GatheredSum, HasTheBitsOfTheCpuForEveryNumberOfRanks) {
  const Stream stream;
  for (const std::vector<int>& leaves : {std::vector<int>{32}, {25}, {2}, {32, 71}})
    for (const int ranks : {1, 2, 3, 7, 12})
      for (const auto& [rows, d] : {std::pair(1, 1), {2, 301}, {3, 1024}}) {
        const size_t n = size_t(rows) * size_t(d);
        const Trees trees(leaves, ranks, n);
        const SumOrder order = SumOrder::by_trees(trees.nodes, trees.finish, trees.place);
        const DeviceArray<float> all(gathered(trees, order, n), stream), out(n);
        sum_gathered(stream.get(), order, rows, d, all.data(), out.data());
        EXPECT_TRUE(same_bits(out.to_host(stream), trees.on_cpu(n))) << ranks << " ranks, " << rows << " x " << d;
      }
}

TEST(GatheredSum, IsAddedToTheResidualAfterTheBias) {
  const Stream stream;
  for (const auto& [rows, d] : {std::pair(3, 301), {2, 1024}})
    for (const bool biased : {false, true}) {
      const size_t n = size_t(rows) * size_t(d);
      const Trees trees({25}, 3, n);
      const SumOrder order = SumOrder::by_trees(trees.nodes, trees.finish, trees.place);
      const std::vector<float> bias = random_floats(size_t(d), 5), before = random_floats(n, 6, 3);
      const DeviceArray<float> all(gathered(trees, order, n), stream), device_bias(bias, stream),
          residual(before, stream);
      add_gathered(stream.get(), order, rows, d, all.data(), biased ? device_bias.data() : nullptr, residual.data());

      Context ctx(1, false);
      std::vector<float> sum = trees.on_cpu(n), expected = before;
      add(ctx, {sum.data(), rows, d}, biased ? bias.data() : nullptr, {expected.data(), rows, d});
      EXPECT_TRUE(same_bits(residual.to_host(stream), expected)) << rows << " x " << d;
    }
}

}  // namespace
}  // namespace pleat::cuda
