#include "core/fold/gptq.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/fold/linear_solve.h"
#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

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
  for (const int bits : {1, 2, 3}) {
    const double rounded = output_error(x, w, gptq(ctx, w.view(), {}, bits));
    const double compensated = output_error(x, w, gptq(ctx, w.view(), second_moment_of(x), bits));
    EXPECT_LT(compensated, 0.6 * rounded) << bits << " bits";
  }
}

TEST(Gptq, StoredNumbersAreTheOnesThePredictorUses) {
  Context ctx(1, false);
  const Table w = random_table(33, 100, 0.1, 8), x = random_table(5, 100, 1, 9);  // ends inside a group
  const std::vector<float> bias = random_table(1, 33, 1, 10).data;
  for (const int bits : {1, 2, 3}) {
    const LowBitRows stored = gptq(ctx, w.view(), second_moment_of(x), bits);
    Table z(x.rows, w.rows);
    predict(ctx, x.view(), stored.packed(0, 33), bias.data(), z.view());
    for (int64_t row = 0; row < x.rows; ++row) {
      float largest = 0;
      for (int64_t i = 0; i < 100; ++i) largest = std::max(largest, std::fabs(x[row][i]));
      const float s = largest / 127;
      for (int64_t n = 0; n < 33; ++n) {
        double expected = bias[size_t(n)], size = std::fabs(expected);
        for (int64_t i = 0; i < 100; ++i) {
          const double term = double(s) * std::nearbyint(x[row][i] / s) * stored.value(n, i);
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
  for (const int bits : {1, 2, 3}) {
    LowBitRows rows(bits, 3, 70);
    for (int64_t n = 0; n < 3; ++n) {
      for (int64_t i = 0; i < 70; ++i) rows.set_code(n, i, int((i * 7 + n) % (1 << bits)));
    }
    for (int64_t n = 0; n < 3; ++n) {
      for (int64_t i = 0; i < 70; ++i) EXPECT_EQ(rows.code(n, i), int((i * 7 + n) % (1 << bits)));
    }
  }
}

TEST(LinearSolve, FactorOfTheInverseTimesTheMatrixIsTheIdentity) {
  const Table x = correlated_rows(100, 48, 3);
  const std::vector<double> h = second_moment_of(x);
  const Table u = inverse_cholesky(h, 48, 0.01);
  double mean = 0;
  for (int64_t i = 0; i < 48; ++i) mean += h[size_t(i * 48 + i)] / 48;
  for (int64_t i = 0; i < 48; ++i) {
    for (int64_t k = 0; k < 48; ++k) {
      double sum = 0;  // (U^T U (H + damping))[i][k]
      for (int64_t j = 0; j < 48; ++j) {
        double inverse = 0;
        for (int64_t m = 0; m < 48; ++m) inverse += double(u[m][i]) * u[m][j];
        sum += inverse * (h[size_t(j * 48 + k)] + (j == k ? 0.01 * mean : 0));
      }
      EXPECT_NEAR(sum, i == k ? 1 : 0, 1e-3);  // f32 factor, condition number about 1e3
    }
  }
}

}  // namespace
}  // namespace pleat
