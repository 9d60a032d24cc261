#include "kernels/cuda/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../vectors.h"
#include "kernels/cuda/device.h"

namespace pleat::cuda {
namespace {

constexpr Activation kAll[] = {Activation::gelu, Activation::gelu_new, Activation::relu, Activation::silu};

// How far the device's may be from the CPU's. The device's, in units of 2^-23 |x|: erfcf is right within 4 (of a value
// up to 2, halved), what its argument's roundings change is at most a quarter, products round by 1: below 6, and
// the forms with expf are better. The CPU's: what its own test grants.
double tolerance(double x) { return std::ldexp(6 * std::fabs(x), -23) + 2e-7 * std::max(1.0, std::fabs(x)); }

std::vector<float> grid(size_t count) {
  std::vector<float> x;
  for (const float value : {0.0f, 1e-30f, 1e-10f, 1e-3f, 16.0f, 30.0f, 1e3f, 1e10f}) x.insert(x.end(), {value, -value});
  for (int i = 0; x.size() < count; ++i) x.push_back(float(i) * 30 / float(count) - 15);
  return x;
}

TEST(CudaActivation, AgreesWithTheCpu) {
  const Stream stream;
  Context ctx(1, false);
  for (const Activation activation : kAll)
    for (const int64_t cols : {300, 1000, 4000}) {
      const int64_t rows = 3;
      const std::vector<float> x = grid(size_t(rows * cols));
      const DeviceArray<float> device(x, stream);
      activate(stream.get(), activation, MatrixView<float>(device.data(), rows, cols));
      const std::vector<float> got = device.to_host(stream);
      std::vector<float> expected = x;
      pleat::activate(ctx, activation, MatrixView<float>(expected.data(), rows, cols));
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_NEAR(got[i], expected[i], tolerance(double(x[i]))) << name_of(activation) << " at " << x[i];
    }
}

TEST(CudaActivation, OfAGateMultipliesTheUpProjectionAndLeavesTheGate) {
  const Stream stream;
  Context ctx(1, false);
  const int64_t rows = 2, cols = 700;
  const std::vector<float> gate = grid(size_t(rows * cols)), up = random_floats(size_t(rows * cols), 1);
  for (const Activation activation : kAll) {
    const DeviceArray<float> device_gate(gate, stream), device_up(up, stream);
    activate_gated(stream.get(), activation, MatrixView<float>(device_gate.data(), rows, cols),
                   MatrixView<float>(device_up.data(), rows, cols));
    EXPECT_TRUE(same_bits(device_gate.to_host(stream), gate)) << name_of(activation);
    std::vector<float> activated_gate = gate, expected = up;
    pleat::activate_gated(ctx, activation, MatrixView<float>(activated_gate.data(), rows, cols),
                          MatrixView<float>(expected.data(), rows, cols));
    const std::vector<float> got = device_up.to_host(stream);
    for (size_t i = 0; i < up.size(); ++i) {
      const double both_round = std::ldexp(std::fabs(double(expected[i])), -23);
      ASSERT_NEAR(got[i], expected[i], tolerance(double(gate[i])) * std::fabs(double(up[i])) + both_round)
          << name_of(activation) << " at " << gate[i];
    }
  }
}

// A gate and an up projection that stand side by side, as one product leaves them.
TEST(CudaActivation, GoesByTheStrides) {
  const Stream stream;
  const int64_t rows = 3, cols = 5;
  const std::vector<float> both = random_floats(size_t(rows * 2 * cols), 2);
  const DeviceArray<float> device(both, stream);
  const MatrixView<float> gate(device.data(), rows, cols, 2 * cols), up(device.data() + cols, rows, cols, 2 * cols);
  activate_gated(stream.get(), Activation::relu, gate, up);
  activate(stream.get(), Activation::relu, gate);
  std::vector<float> expected = both;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < cols; ++i) {
      float& g = expected[size_t(row * 2 * cols + i)];
      g = std::max(g, 0.0f);
      expected[size_t(row * 2 * cols + cols + i)] *= g;
    }
  EXPECT_TRUE(same_bits(device.to_host(stream), expected));
}

TEST(CudaActivation, KeepsNotANumber) {
  const Stream stream;
  for (const Activation activation : kAll) {
    const DeviceArray<float> x(std::vector<float>{std::numeric_limits<float>::quiet_NaN()}, stream);
    activate(stream.get(), activation, MatrixView<float>(x.data(), 1, 1));
    EXPECT_TRUE(std::isnan(x.to_host(stream)[0])) << name_of(activation);
  }
}

TEST(CudaActivation, SoftCapsByTheStrides) {
  const Stream stream;
  const std::vector<float> x = {-100, -1, 0.5f, 77, 3, 200};
  const DeviceArray<float> device(x, stream);
  soft_cap(stream.get(), 30, MatrixView<float>(device.data(), 2, 2, 3));
  const std::vector<float> got = device.to_host(stream);
  for (const size_t i : {0, 1, 3, 4})
    EXPECT_NEAR(got[i], 30 * std::tanh(double(x[i]) / 30), 1e-5 * std::fabs(x[i])) << i;
  EXPECT_EQ(got[2], x[2]);
  EXPECT_EQ(got[5], x[5]);
}

}  // namespace
}  // namespace pleat::cuda
