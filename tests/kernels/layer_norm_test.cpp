#include "kernels/layer_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "vectors.h"

namespace pleat {
namespace {

TEST(LayerNorm, AgreesWithPlainLoopsInDouble) {
  for (Isa isa : isas_here())
    for (int64_t d : {1, 15, 16, 64, 100, 320, 1601}) {
      const int64_t rows = 3;
      std::vector<float> x = random_floats(size_t(rows * d), 1, 2);
      for (float& element : x) element += 5;
      const std::vector<float> weight = random_floats(size_t(d), 2), bias = random_floats(size_t(d), 3);
      for (const float* b : {bias.data(), (const float*)nullptr}) {
        Context ctx(1, false, isa);
        std::vector<float> y(x.size());
        layer_norm(ctx, {x.data(), rows, d}, weight.data(), b, 1e-5f, {y.data(), rows, d});
        for (int64_t row = 0; row < rows; ++row) {
          double mean = 0, variance = 0;
          for (int64_t i = 0; i < d; ++i) mean += x[row * d + i];
          mean /= double(d);
          for (int64_t i = 0; i < d; ++i) variance += (x[row * d + i] - mean) * (x[row * d + i] - mean);
          variance /= double(d);
          for (int64_t i = 0; i < d; ++i) {
            const double normal = (x[row * d + i] - mean) / std::sqrt(variance + double(1e-5f));
            // the mean (about 5) is rounded to f32 and divided by the deviation (1e-5 at least: one column)
            const double tolerance = 1e-5 * (1 + std::fabs(normal)) * (1 + std::fabs(weight[i]));
            ASSERT_NEAR(y[row * d + i], normal * weight[i] + (b ? b[i] : 0), tolerance) << name_of(isa) << " d = " << d;
          }
        }
      }
    }
}

TEST(LayerNorm, GivesTheSameBitsOnEveryInstructionSetAloneInPlaceAndWithAnyThreads) {
  const int64_t rows = 37, d = 324;
  const std::vector<float> x = random_floats(size_t(rows * d), 1), weight = random_floats(size_t(d), 2),
                           bias = random_floats(size_t(d), 3);
  Context plain(1, false, Isa::portable);
  std::vector<float> reference(x.size());
  for (int64_t row = 0; row < rows; ++row)
    layer_norm(plain, {x.data() + row * d, 1, d}, weight.data(), bias.data(), 1e-5f,
               {reference.data() + row * d, 1, d});
  for (Isa isa : isas_here())
    for (int threads : {1, 2, 3}) {
      Context ctx(threads, true, isa);
      std::vector<float> y = x;
      MatrixView<float> in_place(y.data(), rows, d);
      layer_norm(ctx, in_place, weight.data(), bias.data(), 1e-5f, in_place);
      EXPECT_TRUE(same_bits(y, reference)) << name_of(isa) << ", " << threads << " threads";
    }
}

TEST(RmsNorm, AgreesWithPlainLoopsInDoubleAndGivesTheSameBitsEverywhere) {
  for (int64_t d : {1, 15, 64, 100, 1601}) {
    const int64_t rows = 9;
    const std::vector<float> x = random_floats(size_t(rows * d), 1, 2), weight = random_floats(size_t(d), 2);
    std::vector<float> reference;
    for (Isa isa : isas_here()) {
      Context ctx(2, true, isa);
      std::vector<float> y = x;
      MatrixView<float> in_place(y.data(), rows, d);
      rms_norm(ctx, in_place, weight.data(), 1e-5f, in_place);
      if (reference.empty()) reference = y;
      EXPECT_TRUE(same_bits(y, reference)) << name_of(isa);
      for (int64_t row = 0; row < rows; ++row) {
        double squares = 0;
        for (int64_t i = 0; i < d; ++i) squares += double(x[row * d + i]) * x[row * d + i];
        for (int64_t i = 0; i < d; ++i) {
          const double expected = x[row * d + i] / std::sqrt(squares / double(d) + double(1e-5f)) * weight[i];
          ASSERT_NEAR(y[row * d + i], expected, 1e-6 * (1 + std::fabs(expected))) << name_of(isa) << " d = " << d;
        }
      }
    }
  }
}

TEST(Add, AddsRowsAndBias) {
  const int64_t rows = 5, d = 77;
  const std::vector<float> x = random_floats(size_t(rows * d), 1), start = random_floats(size_t(rows * d), 2),
                           bias = random_floats(size_t(d), 3);
  for (Isa isa : isas_here())
    for (int threads : {1, 3}) {
      Context ctx(threads, true, isa);
      std::vector<float> y = start, z = start;
      add(ctx, {x.data(), rows, d}, nullptr, {y.data(), rows, d});
      add(ctx, {x.data(), rows, d}, bias.data(), {z.data(), rows, d});
      for (int64_t i = 0; i < rows * d; ++i) {
        ASSERT_EQ(y[i], start[i] + x[i]);
        ASSERT_EQ(z[i], start[i] + (x[i] + bias[i % d]));
      }
    }
}

}  // namespace
}  // namespace pleat
