// By what a gated neuron's score is multiplied.
#include "core/fold/layer_gates.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

struct ScoredLayer {
  Context ctx{1, false};
  FfnTensors ffn = random_ffn(24, 40);
  Table sample = correlated_rows(300, 24, 7);
  ScoredLayer() {
    ffn.gate = random_table(40, 24, 0.3, 21);
    ffn.gate_bias = random_table(1, 40, 0.5, 22).data;
  }
  std::vector<float> factors(bool predicted) {
    GatePredictors predictors;
    if (predicted) predictors = {gptq(ctx, ffn.gate.view(), {}, 2), gptq(ctx, ffn.up.view(), {}, 2)};
    return fit_layer_gates(ctx, ffn, true, predictors, Activation::silu, sample, shares_through(0)).factor;
  }
  double down_norm(int64_t n) const {
    double norm2 = 0;
    for (int64_t i = 0; i < ffn.hidden(); ++i) norm2 += double(ffn.down[n][i]) * ffn.down[n][i];
    return std::sqrt(norm2);
  }
  double up_rms(int64_t n) const {
    double squares = 0;
    for (int64_t row = 0; row < sample.rows; ++row) {
      double u = ffn.up_bias[size_t(n)];
      for (int64_t i = 0; i < ffn.hidden(); ++i) u += double(sample[row][i]) * ffn.up[n][i];
      squares += u * u;
    }
    return std::sqrt(squares / double(sample.rows));
  }
};

TEST(LayerGates, TheExactGatesScoreGrowsWithUpAndDown) {
  ScoredLayer layer;
  const std::vector<float> before = layer.factors(false);
  for (int64_t n = 0; n < layer.ffn.neurons(); ++n) {
    const double expected = layer.up_rms(n) * layer.down_norm(n);
    EXPECT_NEAR(before[size_t(n)], expected, 1e-4 * expected) << n;
  }
  for (int64_t i = 0; i < layer.ffn.hidden(); ++i) layer.ffn.up[5][i] *= 3;
  layer.ffn.up_bias[5] *= 3;
  const std::vector<float> after = layer.factors(false);
  EXPECT_NEAR(after[5], 3 * before[5], 1e-4 * after[5]);
  EXPECT_EQ(after[6], before[6]);
}

TEST(LayerGates, APredictedScoreHasUpInItAndGrowsWithDownAlone) {
  ScoredLayer layer;
  const std::vector<float> factors = layer.factors(true);
  for (int64_t n = 0; n < layer.ffn.neurons(); ++n)
    EXPECT_NEAR(factors[size_t(n)], layer.down_norm(n), 1e-5 * layer.down_norm(n)) << n;
}

}  // namespace
}  // namespace pleat
