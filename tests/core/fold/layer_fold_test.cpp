#include "core/fold/layer_fold.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/fold/layer_ranges.h"
#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

constexpr int64_t kLayerHidden = 96, kLayerNeurons = 160, kLayerRows = 7;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The layer's pre-activation, in double.
double exact_z(const FfnTensors& ffn, const float* x, int64_t n) {
  double z = ffn.up_bias[size_t(n)];
  for (int64_t i = 0; i < ffn.hidden(); ++i) z += double(x[i]) * ffn.up[n][i];
  return z;
}

struct Fixture {
  Context ctx{1, false};
  FfnTensors ffn = random_ffn(kLayerHidden, kLayerNeurons);
  Table x = random_table(kLayerRows, kLayerHidden, 1, 9);
  LayerFold fold;

  explicit Fixture(WeightFormat format = WeightFormat::int8) {
    fold.slope = random_table(1, kLayerNeurons, 0.5, 11).data;
    fold.intercept = random_table(1, kLayerNeurons, 0.5, 12).data;
    fold.low.assign(size_t(kLayerNeurons), -kInfinity);
    fold.high.assign(size_t(kLayerNeurons), kInfinity);
    fold.predictor = gptq(ctx, ffn.up.view(), {}, 2);
    fold.fold = store_fold(ctx, fold_weight(ctx, ffn, fold), format);
    fold.bias = fold_bias(ffn, fold);
  }
  Table output(FfnForm form) {
    return FoldedLayer(ffn, fold, Activation::gelu_new, WeightFormat::f32).output(ctx, form, x.view());
  }

  Table predicted() {
    Table z(kLayerRows, kLayerNeurons);
    predict(ctx, x.view(), fold.predictor.packed(0, kLayerNeurons), ffn.up_bias.data(), z.view());
    return z;
  }

  // By definition: each neuron's line, or its activation, times its down row.
  std::vector<double> reference(int64_t row, const std::function<double(int64_t n, double z)>& value) const {
    std::vector<double> y(ffn.down_bias.begin(), ffn.down_bias.end());
    for (int64_t n = 0; n < kLayerNeurons; ++n) {
      const double r = value(n, exact_z(ffn, x[row], n));
      for (int64_t i = 0; i < kLayerHidden; ++i) y[size_t(i)] += r * ffn.down[n][i];
    }
    return y;
  }
};

// |C - stored| <= scale / 2 for a code, a bf16 scale that is up to 2^-9 below largest / 127 clips half a code more.
double int8_bound(const Table& c, const float* x, int64_t output) {
  double bound = 0;
  for (int64_t begin = 0; begin < c.rows; begin += kGroup) {
    double largest = 0, sum = 0;
    for (int64_t i = begin; i < std::min(begin + kGroup, c.rows); ++i) {
      largest = std::max(largest, std::fabs(double(c[i][output])));
      sum += std::fabs(double(x[i]));
    }
    bound += largest / 127 * sum;
    // an activation is at most half a step of its group from its int8
    float loudest = 0;
    for (int64_t i = begin; i < std::min(begin + kGroup, c.rows); ++i) loudest = std::max(loudest, std::fabs(x[i]));
    for (int64_t i = begin; i < std::min(begin + kGroup, c.rows); ++i)
      bound += std::fabs(double(c[i][output])) * loudest / 254;
  }
  return bound;
}

TEST(LayerFold, WithoutExactNeuronsIsTheSumOfTheLinesWithinTheRoundingOfTheStoredFold) {
  Fixture f;
  const Table y = f.output(FfnForm::folded), c = fold_weight(f.ctx, f.ffn, f.fold);
  for (int64_t row = 0; row < kLayerRows; ++row) {
    const auto expected = f.reference(
        row, [&](int64_t n, double z) { return f.fold.slope[size_t(n)] * z + f.fold.intercept[size_t(n)]; });
    for (int64_t i = 0; i < kLayerHidden; ++i)
      EXPECT_NEAR(y[row][i], expected[size_t(i)], int8_bound(c, f.x[row], i) + 1e-4);
  }
}

TEST(LayerFold, ItsUnroundedWeightGivesTheSumOfTheLines) {
  Fixture f;
  const Table c = fold_weight(f.ctx, f.ffn, f.fold);
  for (int64_t row = 0; row < kLayerRows; ++row) {
    const auto expected = f.reference(
        row, [&](int64_t n, double z) { return f.fold.slope[size_t(n)] * z + f.fold.intercept[size_t(n)]; });
    for (int64_t i = 0; i < kLayerHidden; ++i) {
      double sum = f.fold.bias[size_t(i)];
      for (int64_t k = 0; k < kLayerHidden; ++k) sum += double(f.x[row][k]) * c[k][i];
      EXPECT_NEAR(sum, expected[size_t(i)], 1e-4);  // f32 sums of 160 and 96 terms of order 1
    }
  }
}

TEST(LayerFold, FallingBackOnEveryNeuronEqualsTheDenseFfn) {
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::bf16}) {
    Fixture f(format);
    f.fold.low.assign(size_t(kLayerNeurons), kInfinity);
    f.fold.high.assign(size_t(kLayerNeurons), -kInfinity);
    const Table y = f.output(FfnForm::folded), dense = f.output(FfnForm::dense), c = fold_weight(f.ctx, f.ffn, f.fold);
    for (int64_t row = 0; row < kLayerRows; ++row) {
      const auto expected = f.reference(row, [](int64_t, double z) { return gelu_new(z); });
      for (int64_t i = 0; i < kLayerHidden; ++i) {
        EXPECT_NEAR(dense[row][i], expected[size_t(i)], 1e-4);
        EXPECT_NEAR(y[row][i], expected[size_t(i)], int8_bound(c, f.x[row], i) + 1e-4);
      }
    }
  }
}

TEST(LayerFold, ComputesExactlyTheNeuronsWhosePredictionIsOutside) {
  Fixture f(WeightFormat::bf16);
  for (int64_t n = 0; n < kLayerNeurons; ++n) f.fold.low[size_t(n)] = -0.5f, f.fold.high[size_t(n)] = 0.7f;
  f.fold.fold.value = fold_weight(f.ctx, f.ffn, f.fold);  // no rounding of C here
  const FoldedLayer layer(f.ffn, f.fold, Activation::gelu_new, WeightFormat::f32);
  const FoldedLayer::Neurons neurons = layer.neurons(f.ctx, f.x.view());
  const Table y = f.output(FfnForm::folded), dropped = f.output(FfnForm::dropped), predicted = f.predicted();
  int64_t outside = 0;
  for (int64_t row = 0; row < kLayerRows; ++row) {
    const auto is_outside = [&](int64_t n) { return predicted[row][n] < -0.5f || predicted[row][n] > 0.7f; };
    for (int64_t n = 0; n < kLayerNeurons; ++n) {
      outside += is_outside(n);
      EXPECT_EQ(neurons.is_selected(row, n), is_outside(n));
      const double z = exact_z(f.ffn, f.x[row], n);
      if (std::fabs(z + 0.5) > 1e-4 && std::fabs(z - 0.7) > 1e-4) {
        EXPECT_EQ(neurons.is_wanted(row, n), z < -0.5 || z > 0.7);
      }
    }
    const auto folded = f.reference(row, [&](int64_t n, double z) {
      return is_outside(n) ? gelu_new(z) : f.fold.slope[size_t(n)] * z + f.fold.intercept[size_t(n)];
    });
    const auto alone = f.reference(row, [&](int64_t n, double z) { return is_outside(n) ? gelu_new(z) : 0; });
    for (int64_t i = 0; i < kLayerHidden; ++i) {
      EXPECT_NEAR(y[row][i], folded[size_t(i)], 2e-4);
      EXPECT_NEAR(dropped[row][i], alone[size_t(i)], 1e-4);
    }
  }
  EXPECT_GT(outside, kLayerRows * kLayerNeurons / 10);
  EXPECT_LT(outside, kLayerRows * kLayerNeurons * 9 / 10);
}

TEST(LayerFold, AnotherNeuronOrderGivesTheSameFunction) {
  Fixture f;
  std::vector<int32_t> order;
  for (int32_t n = 0; n < kLayerNeurons; ++n) order.push_back(n * 37 % kLayerNeurons);
  for (int64_t n = 0; n < kLayerNeurons; ++n) f.fold.low[size_t(n)] = -1, f.fold.high[size_t(n)] = float(n % 3);
  const FoldedLayer before(f.ffn, f.fold, Activation::gelu_new, WeightFormat::f32);
  const FoldedLayer after(reordered(f.ffn, order), reordered(f.fold, order), Activation::gelu_new, WeightFormat::f32);
  const FoldedLayer::Neurons neurons = before.neurons(f.ctx, f.x.view()),
                             neurons_after = after.neurons(f.ctx, f.x.view());
  for (int64_t row = 0; row < kLayerRows; ++row)
    for (int64_t n = 0; n < kLayerNeurons; ++n)
      EXPECT_EQ(neurons_after.is_selected(row, n), neurons.is_selected(row, order[size_t(n)]));
  for (const FfnForm form : {FfnForm::dense, FfnForm::folded, FfnForm::dropped}) {
    const Table y = before.output(f.ctx, form, f.x.view()), y_after = after.output(f.ctx, form, f.x.view());
    for (size_t i = 0; i < y.data.size(); ++i)
      EXPECT_NEAR(y_after.data[i], y.data[i], 1e-4);  // other order of additions
  }
}

TEST(LayerFold, CorrectionFindsALinearRemainderAndLeavesNoiseAlone) {
  Context ctx(1, false);
  const Table x = random_table(1200, 32, 1, 3), noise = random_table(1200, 32, 1, 4), d = random_table(32, 32, 0.3, 5);
  Table missing = multiply(ctx, x.view(), d.view());
  for (int64_t row = 0; row < missing.rows; ++row) {
    for (int64_t i = 0; i < 32; ++i) missing[row][i] += 0.25f;
  }
  const FoldCorrection found = correct_fold(ctx, x, missing);
  for (size_t i = 0; i < d.data.size(); ++i)
    EXPECT_NEAR(found.weight.data[i], d.data[i], 2e-3);  // ridge 1e-3 of the variance
  for (float e : found.bias) EXPECT_NEAR(e, 0.25f, 2e-3);
  const FoldCorrection none = correct_fold(ctx, random_table(80, 32, 1, 6), random_table(80, 32, 1, 7));
  for (float value : none.weight.data) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace pleat
