#include "kernels/cuda/multiply_selected.h"

#include <gtest/gtest.h>

#include "../low_bit_rows_fixture.h"

namespace pleat::cuda {
namespace {

constexpr float kThreshold = 0.6f;

struct Formats {
  WeightFormat up, gate;
};

// Two matrices by input and their biases; of each row of x the largest inputs alone are seen.
struct ByInput {
  ByInput(const Formats& formats, int inputs, int outputs, int rows)
      : inputs(inputs),
        outputs(outputs),
        rows(rows),
        w{{formats.up, inputs, outputs, 1, {}, loud(formats.up)},
          {formats.gate, inputs, outputs, 2, {}, loud(formats.gate)}} {
    for (int i = 0; i < inputs; i += 5)  // of every row
      for (int row = 0; row < rows; ++row) x[size_t(row * inputs + i)] *= 0.1f;
  }
  static std::vector<int32_t> loud(WeightFormat format) {
    return is_low_bit(format) ? std::vector<int32_t>{3, 17} : std::vector<int32_t>();
  }
  bool selected(int row, int i) const { return std::fabs(x[size_t(row * inputs + i)]) > kThreshold; }

  // y [products][count, outputs] of rows [first, first + count).
  std::vector<float> run(int first, int count, size_t products, std::optional<Activation> activation = {}) const {
    const Stream stream;
    const std::vector<float> some(x.begin() + first * inputs, x.begin() + (first + count) * inputs);
    const DeviceArray<float> device_x(some, stream), device_bias(bias, stream), y(products * size_t(count * outputs)),
        work(selected_work(count, inputs, outputs, int(products)));
    const DeviceRows up(w[0].rows, stream), gate(w[1].rows, stream);
    const DeviceSelection selection(input_bins(inputs), stream);
    select_by_magnitude(stream.get(), count, device_x.data(), kThreshold, selection);
    const SelectedProduct of_up{up.view(), device_bias.data(), y.data(), activation},
        of_gate{gate.view(), nullptr, y.data() + count * outputs};
    if (products == 1)
      multiply_selected(stream.get(), count, device_x.data(), {of_up}, selection, work.data());
    else
      multiply_selected(stream.get(), count, device_x.data(), {of_up, of_gate}, selection, work.data());
    return y.to_host(stream);
  }

  Near expected(size_t product, int row, int n) const {
    const RandomRows& of = w[product];
    Near out;
    if (product == 0) out.value = bias[size_t(n)], out.tolerance = std::fabs(out.value);
    for (int i = 0; i < inputs; ++i) {
      if (!selected(row, i)) continue;
      const double value = x[size_t(row * inputs + i)], weight = of.weight(i, n);
      const double seen = of.format == WeightFormat::bf16 ? rounded_to_bf16(float(value)) : value;
      const size_t group = size_t(i * of.groups() + n / 64);
      out.value += seen * weight;
      // scale * code and the minimum may be larger than their sum.
      out.tolerance +=
          std::fabs(seen) * (std::fabs(weight) + (of.minimum.empty() ? 0 : 2 * std::fabs(of.minimum[group])));
    }
    out.tolerance *= (inputs / 8 + 16) * 0x1p-24;  // a warp's inputs, then warps and bins
    return out;
  }

  int inputs, outputs, rows;
  RandomRows w[2];
  std::vector<float> x = random_floats(size_t(rows * inputs), 10), bias = random_floats(size_t(outputs), 11);
};

class CudaMultiplySelected : public testing::TestWithParam<Formats> {};

TEST_P(CudaMultiplySelected, AgreesWithPlainLoopsInDouble) {
  const struct {
    int inputs, outputs, rows;
    size_t products;
  } shapes[] = {{60, 70, 1, 1}, {1100, 130, 3, 2}, {512, 70, 16, 2}};
  for (const auto& shape : shapes) {
    const ByInput of(GetParam(), shape.inputs, shape.outputs, shape.rows);
    const std::vector<float> got = of.run(0, shape.rows, shape.products);
    for (size_t product = 0; product < shape.products; ++product)
      for (int row = 0; row < shape.rows; ++row)
        for (int n = 0; n < shape.outputs; ++n) {
          const Near expected = of.expected(product, row, n);
          ASSERT_NEAR(got[(product * size_t(shape.rows) + size_t(row)) * size_t(shape.outputs) + size_t(n)],
                      expected.value, expected.tolerance)
              << "product " << product << ", row " << row << ", output " << n << " of " << shape.outputs;
        }
  }
}

TEST_P(CudaMultiplySelected, ARowHasTheSameBitsAloneAndAmongOthers) {
  const int inputs = 600, outputs = 70, rows = 16;
  const ByInput of(GetParam(), inputs, outputs, rows);
  const std::vector<float> together = of.run(0, rows, 2);
  for (const int row : {0, 7, 15}) {
    const std::vector<float> alone = of.run(row, 1, 2), first = of.run(row, 1, 1);
    for (size_t product = 0; product < 2; ++product)
      EXPECT_TRUE(same_bits(&alone[product * outputs], &together[(product * rows + size_t(row)) * outputs], outputs))
          << "product " << product << ", row " << row;
    EXPECT_TRUE(same_bits(first.data(), alone.data(), outputs)) << "one product, row " << row;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, CudaMultiplySelected,
    testing::Values(Formats{WeightFormat::f32, WeightFormat::f32}, Formats{WeightFormat::bf16, WeightFormat::bf16},
                    Formats{WeightFormat::int8, WeightFormat::bf16}, Formats{WeightFormat::int4, WeightFormat::int3},
                    Formats{WeightFormat::planes4, WeightFormat::int6}),
    [](const auto& info) { return concat(name_of(info.param.up), "_", name_of(info.param.gate)); });

TEST(CudaMultiplySelected, ActivatesWhatItIsAskedTo) {
  const ByInput of({WeightFormat::f32, WeightFormat::f32}, 100, 70, 2);
  const std::vector<float> plain = of.run(0, 2, 2), activated = of.run(0, 2, 2, Activation::relu);
  for (size_t i = 0; i < plain.size(); ++i)
    EXPECT_EQ(activated[i], i < plain.size() / 2 ? std::max(plain[i], 0.0f) : plain[i]);
}

}  // namespace
}  // namespace pleat::cuda
