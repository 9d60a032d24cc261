#include "kernels/cuda/blas_lt.h"

#include <gtest/gtest.h>

#include <cmath>

#include "../low_bit_rows_fixture.h"

namespace pleat::cuda {
namespace {

constexpr float kUntouched = -77.0f;

// A product whose y begins at column `kFirst` of a wider matrix.
struct Product {
  static constexpr int kFirst = 3;
  static constexpr int kBiasStride = 64;  // floats from one bias to the other: both are as well aligned

  Product(int rows, int width, int outputs)
      : rows(rows),
        width(width),
        outputs(outputs),
        w(WeightFormat::bf16, outputs, width, 5),
        x(random_floats(size_t(rows * width), 1)),
        bias(random_floats(2 * kBiasStride, 2)),
        device_x(x, stream),
        device_bias(bias, stream),
        y(size_t(rows * y_stride())),
        device_w(w.rows, stream),
        room(rows, width) {}
  int y_stride() const { return outputs + kFirst + 2; }

  std::vector<float> multiply(BlasLt& by, const float* of_bias, std::optional<Activation> activation) {
    y.copy_from(std::vector<float>(y.size(), kUntouched), stream);
    const GemmInput input = room.prepare(stream.get(), {device_x.data(), rows, width}, device_w.view());
    by.gemm(stream.get(), input,
            {device_w.view(), of_bias, activation, {y.data() + kFirst, rows, outputs, y_stride()}});
    return y.to_host(stream);
  }

  Stream stream;
  int rows, width, outputs;
  RandomRows w;
  std::vector<float> x, bias;
  DeviceArray<float> device_x, device_bias, y;
  DeviceRows device_w;
  GemmRows room;
};

double activated(std::optional<Activation> activation, double x) {
  if (!activation) return x;
  switch (*activation) {
    case Activation::gelu:
      return x / 2 * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_new:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::relu:
      return std::max(x, 0.0);
    default:
      return x / (1 + std::exp(-x));
  }
}

// bias: which of the product's two; -1: none. Tolerance: the products' in any order, an addition more for the bias; an
// activation's slope is below 1.13, and a device's approximate tanh is off by 2^-11 of itself.
void expect_product(Product& product, BlasLt& by, int bias, std::optional<Activation> activation) {
  const float* const of_bias = bias < 0 ? nullptr : product.device_bias.data() + bias * Product::kBiasStride;
  const std::vector<float> got = product.multiply(by, of_bias, activation);
  for (int row = 0; row < product.rows; ++row)
    for (int column = 0; column < product.y_stride(); ++column) {
      const float value = got[size_t(row * product.y_stride() + column)];
      const int n = column - Product::kFirst;
      if (n < 0 || n >= product.outputs) {
        ASSERT_EQ(value, kUntouched) << "beyond the outputs";
        continue;
      }
      const Near near = dot(product.w, &product.x[size_t(row * product.width)], n);
      const double sum = near.value + (bias < 0 ? 0 : product.bias[size_t(bias * Product::kBiasStride + n)]);
      const double tolerance =
          1.13 * (near.tolerance + std::fabs(sum) * 0x1p-23) + (activation ? std::fabs(sum) * 0x1p-12 : 0);
      ASSERT_NEAR(value, activated(activation, sum), tolerance) << "row " << row << ", output " << n;
    }
}

TEST(BlasLt, AgreesWithPlainLoopsInDouble) {
  BlasLt by(1 << 20);
  for (const int rows : {1, 17, 40})
    for (const int width : {8, 100}) {
      Product product(rows, width, 29);
      expect_product(product, by, -1, std::nullopt);
      expect_product(product, by, 0, std::nullopt);
    }
}

TEST(BlasLt, AddsTheBiasOfEachProductBeforeItsActivation) {
  BlasLt by(1 << 20);
  Product product(18, 64, 24);
  for (const Activation activation : {Activation::gelu, Activation::gelu_new, Activation::relu, Activation::silu})
    for (const int bias : {-1, 0, 1}) expect_product(product, by, bias, activation);
}

// One rank has all outputs and all rows; others have some.
TEST(BlasLt, OneAlgorithmGivesAnElementTheSameBitsAmongAnyOthers) {
  constexpr int kRows = 70, kWidth = 136, kOutputs = 72;
  BlasLt by(1 << 20);
  const Product product(kRows, kWidth, kOutputs);
  const auto multiply = [&](int first_row, int rows, int first_output, int outputs) {
    Rows w = product.device_w.view();
    w.data += first_output * w.stride;
    w.rows = outputs;
    const DeviceArray<float> y(size_t(rows * outputs));
    GemmRows room(rows, kWidth);
    const MatrixView<const float> x(product.device_x.data() + first_row * kWidth, rows, kWidth);
    by.gemm_by_one_algorithm(
        product.stream.get(), room.prepare(product.stream.get(), x, w),
        {w, product.device_bias.data() + first_output, Activation::relu, {y.data(), rows, outputs}}, kOutputs);
    return y.to_host(product.stream);
  };
  const std::vector<float> all = multiply(0, kRows, 0, kOutputs);
  for (const int rows : {1, 7, 33, 69})
    for (const int outputs : {8, 24, kOutputs}) {
      const int first_row = kRows - rows, first_output = kOutputs - outputs;
      const std::vector<float> some = multiply(first_row, rows, first_output, outputs);
      for (int row = 0; row < rows; ++row)
        ASSERT_TRUE(same_bits(&some[size_t(row * outputs)], &all[size_t((first_row + row) * kOutputs + first_output)],
                              size_t(outputs)))
            << rows << " rows, " << outputs << " outputs";
    }
}

TEST(BlasLt, RunsInACapturedGraph) {
  BlasLt by(1 << 20);
  Product product(18, 64, 24);
  const std::vector<float> expected = product.multiply(by, product.device_bias.data(), Activation::silu);
  const GemmInput input =
      product.room.prepare(product.stream.get(), {product.device_x.data(), 18, 64}, product.device_w.view());
  const Graph graph(product.stream, [&] {
    by.gemm(product.stream.get(), input,
            {product.device_w.view(),
             product.device_bias.data(),
             Activation::silu,
             {product.y.data() + Product::kFirst, 18, 24, product.y_stride()}});
  });
  product.y.copy_from(std::vector<float>(product.y.size(), kUntouched), product.stream);
  graph.launch(product.stream);
  EXPECT_TRUE(same_bits(product.y.to_host(product.stream), expected));
}

TEST(BlasLt, RefusesWhatIsNotInBf16) {
  BlasLt by(0);
  Product product(2, 64, 3);
  const GemmInput x{.x = {product.device_x.data(), 2, 64}};
  EXPECT_THROW(
      by.gemm(product.stream.get(), x, {product.device_w.view(), nullptr, std::nullopt, {product.y.data(), 2, 3}}),
      Error);
}

}  // namespace
}  // namespace pleat::cuda
