#include "kernels/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "kernels/check.h"
#include "vectors.h"

namespace pleat {
namespace {

double exact(Activation activation, double x) {
  if (activation == Activation::gelu) return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
  if (activation == Activation::gelu_new) {
    const double u = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
    return x * 0.5 * (1 + std::tanh(u));
  }
  if (activation == Activation::silu) return x / (1 + std::exp(-x));
  return x > 0 ? x : 0;
}

std::vector<float> grid() {
  std::vector<float> x;
  for (int i = -60000; i <= 60000; ++i) x.push_back(float(i) / 4000);
  for (float large : {16.0f, 30.0f, 1e3f, 1e10f, 1e-10f, 1e-30f}) x.insert(x.end(), {large, -large});
  return x;
}

constexpr Activation kAll[] = {Activation::gelu, Activation::gelu_new, Activation::relu, Activation::silu};

TEST(Activation, AgreesWithTheDoublePrecisionFunction) {
  for (Isa isa : isas_here())
    for (Activation activation : kAll) {
      const std::vector<float> x = grid();
      std::vector<float> y = x;
      activate(isa, activation, y.data(), int64_t(y.size()));
      for (size_t i = 0; i < x.size(); ++i) {
        const double tolerance = 2e-7 * std::max(1.0, std::fabs(double(x[i])));
        ASSERT_NEAR(y[i], exact(activation, x[i]), tolerance)
            << name_of(activation) << " on " << name_of(isa) << " at " << x[i];
        if (std::fabs(x[i]) < 1e-3) {
          ASSERT_NEAR(y[i], exact(activation, x[i]), 3e-7 * std::fabs(x[i])) << name_of(activation) << " at " << x[i];
        }
      }
    }
}

TEST(Activation, GivesTheSameBitsOnEveryInstructionSet) {
  for (Activation activation : kAll) {
    std::vector<float> reference = grid();
    activate(Isa::portable, activation, reference.data(), int64_t(reference.size()));
    for (Isa isa : isas_here()) {
      std::vector<float> y = grid();
      activate(isa, activation, y.data(), int64_t(y.size()));
      EXPECT_TRUE(same_bits(y, reference)) << name_of(activation) << " on " << name_of(isa);
    }
  }
}

TEST(Activation, DependsOnTheElementAloneNotOnItsPlaceOrTheThreads) {
  const int64_t rows = 3, cols = 4133;
  const std::vector<float> x = random_floats(size_t(rows * cols), 1, 3);
  for (Isa isa : isas_here())
    for (Activation activation : kAll) {
      std::vector<float> one_by_one = x;
      for (float& element : one_by_one) activate(isa, activation, &element, 1);
      for (int threads : {1, 3}) {
        Context ctx(threads, true, isa);
        std::vector<float> y = x;
        activate(ctx, activation, MatrixView<float>(y.data(), rows, cols));
        EXPECT_TRUE(same_bits(y, one_by_one)) << name_of(activation) << " on " << name_of(isa);
      }
    }
}

TEST(Activation, KeepsNotANumber) {
  for (Isa isa : isas_here())
    for (Activation activation : kAll) {
      float x = std::numeric_limits<float>::quiet_NaN();
      activate(isa, activation, &x, 1);
      EXPECT_TRUE(std::isnan(x)) << name_of(activation) << " on " << name_of(isa);
    }
}

TEST(Activation, OfAGateMultipliesTheUpProjection) {
  const int64_t rows = 3, cols = 2500;
  const std::vector<float> gate = random_floats(size_t(rows * cols), 1), up = random_floats(size_t(rows * cols), 2);
  for (Isa isa : isas_here())
    for (Activation activation : kAll) {
      Context ctx(2, true, isa);
      std::vector<float> g = gate, u = up;
      activate_gated(ctx, activation, MatrixView<float>(g.data(), rows, cols), MatrixView<float>(u.data(), rows, cols));
      for (size_t i = 0; i < u.size(); ++i) {
        const double expected = exact(activation, gate[i]) * up[i];
        ASSERT_NEAR(u[i], expected, 4e-7 * std::max(1.0, std::fabs(expected))) << name_of(activation);
      }
    }
}

TEST(SoftCap, IsCapTimesTanh) {
  for (Isa isa : isas_here())
    for (float cap : {0.5f, 30.0f}) {
      Context ctx(1, false, isa);
      const std::vector<float> x = grid();
      std::vector<float> y = x;
      soft_cap(ctx, cap, MatrixView<float>(y.data(), 1, int64_t(y.size())));
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_NEAR(y[i], cap * std::tanh(double(x[i]) / cap), 3e-7 * cap) << name_of(isa) << " at " << x[i];
    }
}

TEST(Activation, IsNamedAsInHuggingFaceConfigurations) {
  for (Activation activation : kAll) EXPECT_EQ(activation_from_name(name_of(activation)), activation);
  EXPECT_EQ(activation_from_name("gelu_pytorch_tanh"), Activation::gelu_new);
  EXPECT_EQ(activation_from_name("swish"), Activation::silu);
  try {
    activation_from_name("mish");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid);
    EXPECT_NE(std::string(error.what()).find("mish"), std::string::npos);
  }
}

}  // namespace
}  // namespace pleat
