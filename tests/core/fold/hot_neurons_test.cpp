// Which neurons a static fold keeps.
#include "core/fold/hot_neurons.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

constexpr int32_t kQuiet = 7, kLoud = 9, kLinear = 11, kTiny = 5;

// A quiet neuron with a large down row, a loud one with a tiny one, one that is always far from its bend, and one that
// does next to nothing.
struct LayerToCut {
  Context ctx{1, false};
  FfnTensors ffn = random_ffn(24, 60);
  Table sample = random_table(700, 24, 1, 9);
  LayerToCut() {
    scale(ffn.up, kQuiet, 0.3f), scale(ffn.down, kQuiet, 40);
    scale(ffn.up, kLoud, 6), scale(ffn.down, kLoud, 1e-3f);
    ffn.up_bias[kLinear] = 12, scale(ffn.down, kLinear, 3);
    scale(ffn.down, kTiny, 1e-4f);
  }
  static void scale(Table& table, int64_t row, float by) {
    for (int64_t i = 0; i < table.cols; ++i) table[row][i] *= by;
  }
  std::vector<int32_t> hot(int64_t count, bool lines, const std::vector<int32_t>& always = {}) {
    return hot_neurons(ctx, ffn, Activation::gelu_new, sample, count, lines, always);
  }
};

bool has(const std::vector<int32_t>& neurons, int32_t n) { return std::ranges::find(neurons, n) != neurons.end(); }

TEST(HotNeurons, WithoutLinesAreThoseWhoseOutputHasTheMostEnergy) {
  LayerToCut layer;
  const int64_t h = layer.ffn.neurons(), d = layer.ffn.hidden();
  std::vector<double> energy(static_cast<size_t>(h));
  for (int64_t n = 0; n < h; ++n) {
    double act2 = 0, norm2 = 0;
    for (int64_t row = 0; row < layer.sample.rows; ++row) {
      double z = layer.ffn.up_bias[size_t(n)];
      for (int64_t i = 0; i < d; ++i) z += double(layer.sample[row][i]) * layer.ffn.up[n][i];
      act2 += gelu_new(z) * gelu_new(z);
    }
    for (int64_t i = 0; i < d; ++i) norm2 += double(layer.ffn.down[n][i]) * layer.ffn.down[n][i];
    energy[size_t(n)] = act2 * norm2;
  }
  std::vector<int32_t> expected(energy.size());
  std::iota(expected.begin(), expected.end(), 0);
  std::ranges::sort(expected, [&](int32_t a, int32_t b) { return energy[size_t(a)] > energy[size_t(b)]; });
  expected.resize(15);
  std::ranges::sort(expected);
  EXPECT_EQ(layer.hot(15, false), expected);
  EXPECT_TRUE(has(expected, kQuiet) && has(expected, kLinear) && !has(expected, kLoud) && !has(expected, kTiny));
}

TEST(HotNeurons, WithLinesAreThoseThatARegressionMissesByMostOfTheOutput) {
  LayerToCut layer;
  const std::vector<int32_t> hot = layer.hot(15, true);
  EXPECT_EQ(hot.size(), 15u);
  EXPECT_TRUE(std::ranges::is_sorted(hot));
  EXPECT_TRUE(has(hot, kQuiet));
  for (const int32_t n : {kLoud, kLinear, kTiny}) EXPECT_FALSE(has(hot, n)) << n;
}

TEST(HotNeurons, ThoseThatMustStayDo) {
  LayerToCut layer;
  for (const bool lines : {false, true}) {
    const std::vector<int32_t> without = layer.hot(14, lines), hot = layer.hot(15, lines, {kTiny});
    EXPECT_FALSE(has(without, kTiny));
    std::vector<int32_t> expected = without;
    expected.insert(std::ranges::upper_bound(expected, kTiny), kTiny);
    EXPECT_EQ(hot, expected) << "in place of the least of the others";
  }
}

}  // namespace
}  // namespace pleat
