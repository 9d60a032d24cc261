#include "kernels/cuda/norm.h"

#include <gtest/gtest.h>

#include "../vectors.h"
#include "kernels/cuda/device.h"
#include "kernels/layer_norm.h"

namespace pleat::cuda {
namespace {

// Both add the same terms in another order: rows of d terms of size about 1 differ by a few units of d^.5 epsilon.
constexpr float kTolerance = 2e-5f;

TEST(CudaNorm, AddsAndNormalisesAsTheCpuDoes) {
  const Stream stream;
  for (const int d : {32, 100, 320, 1601, 5000, 12288})
    for (const bool centred : {true, false})
      for (const bool adds : {true, false}) {
        const int rows = 3;
        const std::vector<float> x = random_floats(size_t(rows * d), 1), before = random_floats(size_t(rows * d), 2, 3),
                                 weight = random_floats(size_t(d), 3), bias = random_floats(size_t(d), 4);
        const DeviceArray<float> device_x(x, stream), residual(before, stream), device_weight(weight, stream),
            device_bias(bias, stream), y(x.size());
        const Norm norm{device_weight.data(), centred ? device_bias.data() : nullptr, 1e-5f, centred};
        add_norm(stream.get(), rows, d, {adds ? device_x.data() : nullptr}, norm, residual.data(), y.data());

        Context ctx(1, false);
        std::vector<float> sum = before, expected(x.size());
        if (adds) add(ctx, {x.data(), rows, d}, nullptr, {sum.data(), rows, d});
        if (centred)
          layer_norm(ctx, {sum.data(), rows, d}, weight.data(), bias.data(), 1e-5f, {expected.data(), rows, d});
        else
          rms_norm(ctx, {sum.data(), rows, d}, weight.data(), 1e-5f, {expected.data(), rows, d});
        const std::vector<float> got = y.to_host(stream);
        EXPECT_TRUE(same_bits(residual.to_host(stream), sum));
        for (size_t i = 0; i < got.size(); ++i)
          ASSERT_NEAR(got[i], expected[i], kTolerance * (1 + std::abs(expected[i])))
              << "d = " << d << ", element " << i;
      }
}

TEST(CudaNorm, TermsAndTheirBiasAreAddedInOrder) {
  const Stream stream;
  const int rows = 2, d = 300, terms = 3;
  const std::vector<float> x = random_floats(size_t(terms * rows * d), 1), before = random_floats(size_t(rows * d), 2),
                           bias = random_floats(size_t(d), 3), weight(size_t(d), 1.0f);
  const DeviceArray<float> device_x(x, stream), residual(before, stream), device_bias(bias, stream),
      device_weight(weight, stream), y(before.size());
  add_norm(stream.get(), rows, d, {device_x.data(), terms, device_bias.data()}, {device_weight.data()}, residual.data(),
           y.data());
  std::vector<float> expected = before;
  for (size_t i = 0; i < expected.size(); ++i)
    expected[i] += ((x[i] + x[expected.size() + i]) + x[2 * expected.size() + i]) + bias[i % d];
  EXPECT_TRUE(same_bits(residual.to_host(stream), expected));
}

TEST(CudaNorm, ASubLayersOutputIsNormalisedBeforeItIsAdded) {
  const Stream stream;
  const int rows = 2, d = 130;
  const std::vector<float> x = random_floats(size_t(rows * d), 1), before = random_floats(size_t(rows * d), 2, 3),
                           weight = random_floats(size_t(d), 3), next = random_floats(size_t(d), 4),
                           bias = random_floats(size_t(d), 5);
  const DeviceArray<float> device_x(x, stream), residual(before, stream), device_weight(weight, stream),
      device_next(next, stream), device_bias(bias, stream);
  add_normed(stream.get(), rows, d, device_x.data(), device_bias.data(), {device_weight.data(), nullptr, 1e-5f, false},
             {device_next.data(), nullptr, 1e-5f, false}, residual.data(), device_x.data());
  Context ctx(1, false);
  std::vector<float> sum = x, expected(x.size()), residual_expected = before;
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += bias[i % d];
  rms_norm(ctx, {sum.data(), rows, d}, weight.data(), 1e-5f, {sum.data(), rows, d});
  for (size_t i = 0; i < sum.size(); ++i) residual_expected[i] += sum[i];
  rms_norm(ctx, {residual_expected.data(), rows, d}, next.data(), 1e-5f, {expected.data(), rows, d});
  const std::vector<float> got = device_x.to_host(stream), got_residual = residual.to_host(stream);
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got_residual[i], residual_expected[i], kTolerance * (1 + std::abs(residual_expected[i]))) << i;
    ASSERT_NEAR(got[i], expected[i], kTolerance * (1 + std::abs(expected[i]))) << i;
  }
}

TEST(CudaNorm, HeadsAreNormalisedOneByOne) {
  const Stream stream;
  const int rows = 3, heads = 5, head_size = 36, stride = heads * head_size + 7;
  const std::vector<float> x = random_floats(size_t(rows * stride), 1), weight = random_floats(size_t(head_size), 2);
  const DeviceArray<float> device_x(x, stream), device_weight(weight, stream);
  norm_heads(stream.get(), rows, heads, head_size, {device_weight.data(), nullptr, 1e-5f, false}, device_x.data(),
             stride);
  Context ctx(1, false);
  std::vector<float> expected = x;
  for (int row = 0; row < rows; ++row) {
    const MatrixView<float> of_row(&expected[size_t(row * stride)], heads, head_size);
    rms_norm(ctx, of_row, weight.data(), 1e-5f, of_row);
  }
  const std::vector<float> got = device_x.to_host(stream);
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], kTolerance * (1 + std::abs(expected[i]))) << i;
}

}  // namespace
}  // namespace pleat::cuda
