// The candidates of one layer's neurons: what they weigh, and their lines.
#include "core/fold/layer_ranges.h"

#include <gtest/gtest.h>

#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

struct RangedLayer {
  Context ctx{1, false};
  FfnTensors ffn = random_ffn(32, 300);  // more than one block of neurons
  Table sample = correlated_rows(400, 32, 7);
  LayerRanges fitted(double layer_weight) {
    return fit_layer_ranges(ctx, ffn, gptq(ctx, ffn.up.view(), {}, 2), Activation::gelu_new, sample, layer_weight);
  }
};

TEST(LayerRanges, ANeuronWeighsItsSquaredDownRow) {
  RangedLayer layer;
  const LayerRanges before = layer.fitted(3);
  for (int64_t n = 0; n < layer.ffn.neurons(); ++n) {
    double norm2 = 0;
    for (int64_t i = 0; i < layer.ffn.hidden(); ++i) norm2 += double(layer.ffn.down[n][i]) * layer.ffn.down[n][i];
    EXPECT_NEAR(before.weight[size_t(n)], 3 * norm2, 1e-9 * norm2) << n;
  }
  for (int64_t i = 0; i < layer.ffn.hidden(); ++i) layer.ffn.down[5][i] *= 2;
  const LayerRanges after = layer.fitted(3);
  EXPECT_DOUBLE_EQ(after.weight[5], 4 * before.weight[5]);
  EXPECT_EQ(after.weight[6], before.weight[6]);
}

TEST(LayerRanges, TheLineOfAllTokensIsLeastSquaresOverTheExactZWithItsBias) {
  RangedLayer layer;
  const LayerRanges ranges = layer.fitted(1);
  const double rows = double(layer.sample.rows);
  for (int64_t n = 0; n < layer.ffn.neurons(); ++n) {
    double sz = 0, sa = 0, szz = 0, sza = 0;
    for (int64_t row = 0; row < layer.sample.rows; ++row) {
      double z = layer.ffn.up_bias[size_t(n)];
      for (int64_t i = 0; i < layer.ffn.hidden(); ++i) z += double(layer.sample[row][i]) * layer.ffn.up[n][i];
      const double a = gelu_new(z);
      sz += z, sa += a, szz += z * z, sza += z * a;
    }
    const double slope = (rows * sza - sz * sa) / (rows * szz - sz * sz);
    const NeuronRange& all = ranges.neurons[size_t(n)][0];  // nothing outside
    EXPECT_NEAR(all.slope, slope, 1e-4) << n;
    EXPECT_NEAR(all.intercept, (sa - slope * sz) / rows, 1e-4) << n;
  }
}

}  // namespace
}  // namespace pleat
