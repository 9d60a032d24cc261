#include "kernels/cuda/multiply_rows.h"

#include <gtest/gtest.h>

#include "../low_bit_rows_fixture.h"
#include "kernels/cuda/activation.h"

namespace pleat::cuda {
namespace {

constexpr WeightFormat kFormats[] = {WeightFormat::f32,     WeightFormat::bf16,   WeightFormat::int8,
                                     WeightFormat::int6,    WeightFormat::int5,   WeightFormat::int4,
                                     WeightFormat::int3,    WeightFormat::int2,   WeightFormat::planes4,
                                     WeightFormat::planes3, WeightFormat::planes2};

std::vector<int32_t> some_inputs(WeightFormat format, int64_t width) {
  if (!is_low_bit(format) || width < 70) return {};
  return {3, 64, int32_t(width - 1)};
}

class MultiplyRows : public testing::TestWithParam<WeightFormat> {};

TEST_P(MultiplyRows, AgreesWithPlainLoopsInDouble) {
  const Stream stream;
  for (const int width : {64, 100, 576, 2500})
    for (const int rows : {1, 3, 16}) {
      const RandomRows w(GetParam(), 11, width, 5, some_inputs(GetParam(), width));
      const std::vector<float> x = random_floats(size_t(rows * width), 1), bias = random_floats(11, 2);
      const DeviceArray<float> device_x(x, stream), device_bias(bias, stream), y(size_t(rows * 13));
      const DeviceRows device_w(w.rows, stream);
      const Rows view = device_w.view();
      QuantisedRows quantised(width);
      const RowInput input =
          quantised.quantise(stream.get(), device_x.data(), rows, view.protected_inputs, view.protected_input_count);
      multiply_rows(stream.get(), input, {{view, device_bias.data(), y.data(), 13}});
      const std::vector<float> got = y.to_host(stream);
      for (int row = 0; row < rows; ++row)
        for (int n = 0; n < 11; ++n) {
          const Near expected = dot(w, &x[size_t(row * width)], n);
          const double value = expected.value + bias[size_t(n)];
          // The bias is one more addition.
          ASSERT_NEAR(got[size_t(row * 13 + n)], value, expected.tolerance + std::fabs(value) * 0x1p-23)
              << name_of(GetParam()) << ", width " << width << ", row " << row << " of " << rows << ", output " << n;
        }
    }
}

TEST_P(MultiplyRows, ARowHasTheSameBitsAloneAndAmongOthers) {
  const Stream stream;
  // More than two groups, or blocks, for each of the eight sums that an output has. Few and many rows have kernels
  // apart.
  const int width = 1290, rows = 16, outputs = 20;
  const RandomRows w(GetParam(), outputs, width, 6);
  const std::vector<float> x = random_floats(size_t(rows * width), 3);
  const DeviceArray<float> device_x(x, stream), together(size_t(rows * outputs)), alone(outputs);
  const DeviceRows device_w(w.rows, stream);
  QuantisedRows quantised(width);
  multiply_rows(stream.get(), quantised.quantise(stream.get(), device_x.data(), rows),
                {{device_w.view(), nullptr, together.data(), outputs}});
  const std::vector<float> all = together.to_host(stream);
  for (int row = 0; row < rows; ++row) {
    multiply_rows(stream.get(), quantised.quantise(stream.get(), device_x.data() + row * width, 1),
                  {{device_w.view(), nullptr, alone.data(), outputs}});
    EXPECT_TRUE(same_bits(alone.to_host(stream).data(), &all[size_t(row * outputs)], outputs)) << row;
  }
}

TEST_P(MultiplyRows, AnActivationIsThatOfTheBiasedSum) {
  const Stream stream;
  const int width = 130, rows = 2, outputs = 40;
  const RandomRows w(GetParam(), outputs, width, 5);
  const DeviceArray<float> x(random_floats(size_t(rows * width), 1), stream), bias(random_floats(outputs, 2), stream),
      sums(size_t(rows * outputs)), activated(size_t(rows * outputs));
  const DeviceRows device_w(w.rows, stream);
  QuantisedRows quantised(width);
  const RowInput input = quantised.quantise(stream.get(), x.data(), rows);
  RowProduct product{device_w.view(), bias.data(), sums.data(), outputs};
  multiply_rows(stream.get(), input, {product});
  activate(stream.get(), Activation::gelu, {sums.data(), rows, outputs});
  product.y = activated.data();
  product.activation = Activation::gelu;
  multiply_rows(stream.get(), input, {product});
  EXPECT_TRUE(same_bits(activated.to_host(stream).data(), sums.to_host(stream).data(), size_t(rows * outputs)));
}

TEST_P(MultiplyRows, AnInputThatIsNoNumberMakesItsRowNone) {
  const Stream stream;
  const int width = 130, outputs = 40;
  const RandomRows w(GetParam(), outputs, width, 5);
  const DeviceRows device_w(w.rows, stream);
  QuantisedRows quantised(width);
  for (const int odd : {0, 63, 100, 129}) {
    std::vector<float> x = random_floats(size_t(2 * width), 1);
    x[size_t(odd)] = odd == 63 ? INFINITY : NAN;
    const DeviceArray<float> device_x(x, stream), y(size_t(2 * outputs));
    multiply_rows(stream.get(), quantised.quantise(stream.get(), device_x.data(), 2),
                  {{device_w.view(), nullptr, y.data(), outputs}});
    const std::vector<float> got = y.to_host(stream);
    for (int i = 0; i < 2 * outputs; ++i) ASSERT_EQ(std::isfinite(got[size_t(i)]), i >= outputs) << odd << ", " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, MultiplyRows, testing::ValuesIn(kFormats),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(MultiplyRows, SeveralMatricesInOneLaunchGiveWhatEachGivesAlone) {
  const Stream stream;
  const int width = 192, rows = 2;
  const RandomRows a(WeightFormat::int8, 30, width, 7), b(WeightFormat::int2, 65, width, 8);
  const std::vector<float> x = random_floats(size_t(rows * width), 3);
  const DeviceArray<float> device_x(x, stream), y(size_t(rows * 95)), alone(size_t(rows * 65));
  const DeviceRows device_a(a.rows, stream), device_b(b.rows, stream);
  QuantisedRows quantised(width);
  const RowInput input = quantised.quantise(stream.get(), device_x.data(), rows);
  multiply_rows(stream.get(), input,
                {{device_a.view(), nullptr, y.data(), 95}, {device_b.view(), nullptr, y.data() + 30, 95}});
  multiply_rows(stream.get(), input, {{device_b.view(), nullptr, alone.data(), 65}});
  const std::vector<float> got = y.to_host(stream), expected = alone.to_host(stream);
  for (int row = 0; row < rows; ++row) {
    EXPECT_TRUE(same_bits(&got[size_t(row * 95 + 30)], &expected[size_t(row * 65)], 65));
    for (int n = 0; n < 30; ++n) {
      const Near near = dot(a, &x[size_t(row * width)], n);
      ASSERT_NEAR(got[size_t(row * 95 + n)], near.value, near.tolerance);
    }
  }
}

}  // namespace
}  // namespace pleat::cuda
