#include "core/fold/planes.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/fold/gptq.h"
#include "core/fold/plane_fit.h"
#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

constexpr PlaneScales kKinds[] = {PlaneScales::column, PlaneScales::block};

// Sum over rows of x of (x . (w - stored))^2.
template <class Rows>
double output_error(const Table& x, const Table& w, const Rows& stored) {
  double sum = 0;
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t n = 0; n < w.rows; ++n) {
      double difference = 0;
      for (int64_t i = 0; i < w.cols; ++i) difference += double(x[row][i]) * (w[n][i] - stored.value(n, i));
      sum += difference * difference;
    }
  return sum;
}

TEST(PlaneQuantiser, CompensatingBeatsFittingTheWeightsAloneOnCorrelatedInputs) {
  Context ctx(2, true);
  const Table x = correlated_rows(300, 160, 3), w = random_table(100, 160, 0.1, 8);
  for (const PlaneScales kind : kKinds)
    for (const int planes : {2, 3, 4}) {
      const double alone = output_error(x, w, quantise_planes(ctx, w.view(), {}, planes, kind));
      EXPECT_LT(output_error(x, w, quantise_planes(ctx, w.view(), second_moment_of(x), planes, kind)), 0.7 * alone)
          << planes << " planes";
    }
}

TEST(PlaneQuantiser, APlaneMoreMoreThanHalvesTheSquaredErrorOfAWeight) {
  Context ctx(1, false);
  const Table w = random_table(64, 128, 0.1, 8);
  for (const PlaneScales kind : kKinds) {
    double before = INFINITY;
    for (const int planes : {2, 3, 4}) {
      const PlaneRows stored = quantise_planes(ctx, w.view(), {}, planes, kind);
      double sum = 0, energy = 0;
      for (int64_t n = 0; n < w.rows; ++n)
        for (int64_t i = 0; i < w.cols; ++i) {
          sum += std::pow(double(w[n][i]) - double(stored.value(n, i)), 2);
          energy += std::pow(double(w[n][i]), 2);
        }
      EXPECT_LT(sum, before / 2) << planes << " planes";
      // Of normally distributed numbers the best 4, 8 and 16 levels leave .1175, .0345 and .0095 (Max 1960).
      EXPECT_LT(sum / energy, 1.5 * (planes == 2 ? 0.1175 : planes == 3 ? 0.0345 : 0.0095)) << planes << " planes";
      before = sum;
    }
  }
}

TEST(PlaneQuantiser, SixteenWeightsOnLevelsOfTwoPowersAreHeldExactly) {
  for (const int planes : {2, 3, 4}) {
    PlaneFit truth;
    truth.planes = planes;
    truth.scales = {40, 20, 9, planes == 4 ? 5 : 0};
    float x[16], weight[16];
    for (int i = 0; i < 16; ++i) x[i] = float(truth.level(i % (1 << planes))), weight[i] = 1;
    const PlaneFit fit = fit_planes(x, weight, 16, planes);
    for (float value : x) EXPECT_EQ(float(fit.level(fit.nearest(value))), value) << planes << " planes";
  }
}

// Rows of both parts of a matrix, in the arithmetic of kernels/planes.h.
TEST(PlaneQuantiser, StoredNumbersAreTheOnesTheKernelUsesBitForBit) {
  Context ctx(2, true);
  const Table w = random_table(133, 100, 0.1, 8), x = random_table(5, 100, 1, 9);
  for (const PlaneScales kind : kKinds)
    for (const int planes : {2, 3, 4}) {
      const PlaneRows stored =
          quantise_planes(ctx, w.view(), second_moment_of(random_table(300, 100, 1, 4)), planes, kind, {5, 70});
      for (const int64_t begin : {0, 77}) {
        const PlanesMatrix matrix = stored.packed(begin, 133);
        const std::vector<int64_t> offsets = {0, 100};
        const TreeNode whole{0, 1};
        Table y(x.rows, 133 - begin);
        multiply_planes(ctx, x.view(), matrix, {offsets, 0, &whole, 1}, nullptr, y.data.data(), y.cols, 0);
        for (int64_t row = 0; row < x.rows; ++row)
          for (int64_t n = begin; n < 133; ++n) {
            float expected = 0;
            for (int64_t group = 0; group < 2; ++group) {
              float highest = 0;
              const auto value = [&](int64_t k) { return k == 5 || k == 70 ? 0.0f : x[row][k]; };
              for (int64_t k = 64 * group; k < std::min<int64_t>(64 * group + 64, 100); ++k)
                highest = std::max(highest, std::fabs(value(k)));
              const float s = highest / 127, unit = std::ldexp(1.0f, stored.exponents[size_t(n / 64 * 2 + group)]);
              int32_t sum = 0;
              for (int64_t k = 64 * group; k < std::min<int64_t>(64 * group + 64, 100); ++k)
                if (k != 5 && k != 70)
                  sum += int(std::nearbyint(value(k) / s)) * int(std::lround(stored.value(n, k) / unit));
              expected = std::fma(s * unit, float(sum), expected);
            }
            for (const int64_t k : {5, 70}) expected += x[row][k] * stored.value(n, k);
            ASSERT_EQ(y[row][n - begin], expected) << planes << " planes, output " << n;
          }
      }
    }
}

TEST(PlaneQuantiser, ByColumnIsAsGoodAsCodesOfTheSameBytes) {
  Context ctx(2, true);
  const Table x = correlated_rows(300, 192, 3), w = random_table(128, 192, 0.1, 8);
  const std::vector<double> moment = second_moment_of(x);
  for (const int bits : {2, 3, 4})
    EXPECT_LT(output_error(x, w, quantise_planes(ctx, w.view(), moment, bits, PlaneScales::column)),
              1.1 * output_error(x, w, gptq(ctx, w.view(), moment, bits, bits > 2)))
        << bits;
}

}  // namespace
}  // namespace pleat
