#include "core/fold/gptq.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/fold/linear_solve.h"
#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

constexpr int kBits[] = {1, 2, 3, 4, 5, 6, 8};

// Sum over rows of x of (x . (w - stored))^2.
double output_error(const Table& x, const Table& w, const LowBitRows& stored) {
  double sum = 0;
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t n = 0; n < w.rows; ++n) {
      double difference = 0;
      for (int64_t i = 0; i < w.cols; ++i) difference += double(x[row][i]) * (w[n][i] - stored.value(n, i));
      sum += difference * difference;
    }
  }
  return sum;
}

TEST(Gptq, BeatsRoundToNearestOnCorrelatedInputs) {
  Context ctx(2, true);
  const Table x = correlated_rows(300, 160, 3), w = random_table(40, 160, 0.1, 8);
  for (const int bits : kBits) {
    const double rounded = output_error(x, w, gptq(ctx, w.view(), {}, bits));
    for (bool activation_order : {false, true}) {
      const LowBitRows stored = gptq(ctx, w.view(), second_moment_of(x), bits, activation_order);
      EXPECT_LT(output_error(x, w, stored), 0.7 * rounded) << bits << " bits";
    }
  }
}

// A few inputs much louder than the rest: taken first, their errors can still be made up for.
TEST(Gptq, InTheOrderOfActivationsIsBetterWhereAFewInputsAreLoud) {
  Context ctx(2, true);
  Table x = correlated_rows(300, 160, 3);
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t i = 120; i < 160; i += 5) x[row][i] *= 8;
  const Table w = random_table(40, 160, 0.1, 8);
  for (const int bits : {3, 4}) {
    const double in_order = output_error(x, w, gptq(ctx, w.view(), second_moment_of(x), bits));
    const double by_activation = output_error(x, w, gptq(ctx, w.view(), second_moment_of(x), bits, true));
    EXPECT_LT(by_activation, 0.9 * in_order) << bits << " bits";
  }
}

TEST(Gptq, EachBitMoreHalvesTheRoundingOfAWeight) {
  Context ctx(1, false);
  const Table w = random_table(20, 160, 0.1, 8);
  double before = INFINITY;
  for (const int bits : kBits) {
    if (bits == 1) continue;
    const LowBitRows stored = gptq(ctx, w.view(), {}, bits);
    double sum = 0;
    for (int64_t n = 0; n < w.rows; ++n)
      for (int64_t i = 0; i < w.cols; ++i) sum += std::pow(double(w[n][i]) - double(stored.value(n, i)), 2);
    EXPECT_LT(sum, before / 2.5) << bits << " bits";
    before = sum;
  }
}

// As of a matrix whose rows have a large mean: bf16 has no minimum near 100.2 but 100 and 100.5.
TEST(Gptq, WeightsFarFromZeroKeepTheirDifferences) {
  Context ctx(1, false);
  Table w = random_table(8, 64, 0.02, 8);
  for (float& x : w.data) x += 100.2f;
  for (const int bits : {3, 4, 5, 6}) {
    const LowBitRows stored = gptq(ctx, w.view(), {}, bits);
    const double reach = 0.55 / ((1 << bits) - 1);  // half a step over what begins at 100
    for (int64_t n = 0; n < w.rows; ++n)
      for (int64_t i = 0; i < w.cols; ++i) ASSERT_NEAR(stored.value(n, i), w[n][i], reach) << bits << " bits";
  }
}

TEST(Gptq, StoredNumbersAreTheOnesTheKernelUses) {
  Context ctx(1, false);
  const Table w = random_table(33, 100, 0.1, 8), x = random_table(5, 100, 1, 9);  // ends inside a group
  const std::vector<float> bias = random_table(1, 33, 1, 10).data;
  for (const int bits : kBits) {
    const LowBitRows stored = gptq(ctx, w.view(), second_moment_of(x), bits);
    Table z(x.rows, w.rows);
    predict(ctx, x.view(), stored.packed(0, 33), bias.data(), z.view());
    for (int64_t row = 0; row < x.rows; ++row) {
      double quantised[100];  // by groups of 64
      for (int64_t i = 0; i < 100; ++i) {
        float largest = 0;
        for (int64_t k = i / 64 * 64; k < std::min<int64_t>(i / 64 * 64 + 64, 100); ++k)
          largest = std::max(largest, std::fabs(x[row][k]));
        const float s = largest / 127;
        quantised[i] = double(s) * std::nearbyint(x[row][i] / s);
      }
      for (int64_t n = 0; n < 33; ++n) {
        double expected = bias[size_t(n)], size = std::fabs(expected);
        for (int64_t i = 0; i < 100; ++i) {
          const double term = quantised[i] * stored.value(n, i);
          expected += term, size += std::fabs(term);
        }
        EXPECT_NEAR(z[row][n], expected, 1e-5 * size);
      }
    }
  }
}

TEST(Gptq, OneBitIsPlusOrMinusTheMeanMagnitude) {
  Context ctx(1, false);
  const Table w = random_table(6, 64, 0.1, 8);
  const LowBitRows stored = gptq(ctx, w.view(), {}, 1);
  for (int64_t n = 0; n < 6; ++n) {
    double mean = 0;
    for (int64_t i = 0; i < 64; ++i) mean += std::fabs(w[n][i]) / 64;
    for (int64_t i = 0; i < 64; ++i) {
      EXPECT_NEAR(std::fabs(stored.value(n, i)), mean, mean / 256);  // bf16
      EXPECT_EQ(stored.value(n, i) > 0, w[n][i] > 0);
    }
  }
}

TEST(Gptq, CodesRoundTripThroughTheirBytes) {
  for (const int bits : kBits) {
    LowBitRows rows(bits, 3, 70);
    for (int64_t n = 0; n < 3; ++n) {
      for (int64_t i = 0; i < 70; ++i) rows.set_code(n, i, int((i * 7 + n) % (1 << bits)));
    }
    for (int64_t n = 0; n < 3; ++n) {
      for (int64_t i = 0; i < 70; ++i) EXPECT_EQ(rows.code(n, i), int((i * 7 + n) % (1 << bits)));
    }
  }
}

// e^T H e summed over outputs, e [neurons, d] the rounding error.
double activation_error(const Table& w, const LowBitRows& rows, const std::vector<double>& h) {
  double sum = 0;
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t j = 0; j < w.rows; ++j)
      for (int64_t k = 0; k < w.cols; ++k)
        sum += h[size_t(i * w.rows + j)] * (double(w[i][k]) - rows.value(i, k)) * (double(w[j][k]) - rows.value(j, k));
  return sum;
}

TEST(GptqByNeuron, LosesLessOfTheOutputThanRoundingAndGroupsAlongANeuronsOutputs) {
  Context ctx(2, true);
  const Table w = random_table(96, 70, 0.1, 21), activations = correlated_rows(400, 96, 22);
  const std::vector<double> h = second_moment_of(activations);
  for (const int bits : {2, 3, 4, 8}) {
    const LowBitRows rounded = gptq_by_neuron(ctx, w.view(), {}, bits);
    const LowBitRows compensated = gptq_by_neuron(ctx, w.view(), h, bits, bits > 2);
    EXPECT_EQ(compensated.rows, 96);
    EXPECT_EQ(compensated.groups(), 2);
    // Without moments a neuron is a row like any other.
    EXPECT_EQ(rounded.codes, gptq(ctx, w.view(), {}, bits).codes) << bits;
    EXPECT_LT(activation_error(w, compensated, h), 0.8 * activation_error(w, rounded, h)) << bits;
  }
}

TEST(GptqByNeuron, PlanesAreSumsOfScalesThatFitWhatIsRounded) {
  Context ctx(2, true);
  const Table w = random_table(96, 70, 0.1, 24), activations = correlated_rows(400, 96, 25);
  const std::vector<double> h = second_moment_of(activations);
  for (const int planes : {2, 3, 4}) {
    const LowBitRows rounded = gptq_by_neuron(ctx, w.view(), {}, planes, false, {}, true);
    const LowBitRows compensated = gptq_by_neuron(ctx, w.view(), h, planes, true, {}, true);
    EXPECT_LT(activation_error(w, compensated, h), 0.8 * activation_error(w, rounded, h)) << planes;
    EXPECT_LT(activation_error(w, rounded, h), 1.1 * activation_error(w, gptq_by_neuron(ctx, w.view(), {}, planes), h));
    for (int64_t n = 0; n < w.rows; ++n)
      for (const int64_t i : {0, 63, 64, 69}) {
        const size_t group = size_t(n * 2 + i / 64);
        double value = 0;  // 2^e sum of signed scales
        for (int p = 0; p < planes; ++p)
          value += (rounded.code(n, i) >> p & 1 ? 0.5 : -0.5) * double(to_f32(rounded.scale[group])) *
                   plane_scale_value(rounded.plane_scales[group * size_t(planes) + size_t(p)]);
        EXPECT_EQ(rounded.value(n, i), float(value));
      }
  }
}

TEST(GptqByNeuron, AProtectedNeuronIsItsWeightsInBf16) {
  Context ctx(1, true);
  const Table w = random_table(80, 70, 0.1, 23);
  const LowBitRows rows = gptq_by_neuron(ctx, w.view(), {}, 3, false, {5, 77});
  for (const int64_t n : {5, 77})
    for (int64_t i = 0; i < 70; ++i) EXPECT_EQ(rows.value(n, i), to_f32(to_bf16(w[n][i])));
  EXPECT_NE(rows.value(6, 3), to_f32(to_bf16(w[6][3])));
  std::vector<int32_t> order;
  for (int32_t n = 0; n < 80; ++n) order.push_back(79 - n);
  const LowBitRows turned = reordered(rows, order);
  EXPECT_EQ(turned.protected_rows, (std::vector<int32_t>{2, 74}));
  for (int64_t n = 0; n < 80; ++n) EXPECT_EQ(turned.value(n, 9), rows.value(79 - n, 9));
}

TEST(LinearSolve, FactorOfTheInverseTimesTheMatrixIsTheIdentity) {
  constexpr int64_t kWidth = 80;  // more than one block of columns
  Context ctx(2, true);
  const Table x = correlated_rows(160, kWidth, 3);
  const std::vector<double> h = second_moment_of(x);
  const Table u = inverse_cholesky(ctx, h, kWidth, 0.01);
  double mean = 0;
  for (int64_t i = 0; i < kWidth; ++i) mean += h[size_t(i * kWidth + i)] / kWidth;
  for (int64_t i = 0; i < kWidth; ++i) {
    for (int64_t k = 0; k < kWidth; ++k) {
      double sum = 0;  // (U^T U (H + damping))[i][k]
      for (int64_t j = 0; j < kWidth; ++j) {
        double inverse = 0;
        for (int64_t m = 0; m < kWidth; ++m) inverse += double(u[m][i]) * u[m][j];
        sum += inverse * (h[size_t(j * kWidth + k)] + (j == k ? 0.01 * mean : 0));
      }
      EXPECT_NEAR(sum, i == k ? 1 : 0, 1e-3);  // f32 factor, condition number about 1e3
    }
  }
}

}  // namespace
}  // namespace pleat
