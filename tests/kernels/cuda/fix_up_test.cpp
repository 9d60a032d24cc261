#include "kernels/cuda/fix_up.h"

#include <gtest/gtest.h>

#include "../low_bit_rows_fixture.h"

namespace pleat::cuda {
namespace {

constexpr int kNeurons = 190;
// Bins, and virtual shards. The last one is longer than what a block's warps take at a time.
const std::vector<int32_t> kBins = {0, 3, 3, 45, kNeurons};

struct Formats {
  WeightFormat up, down;
  bool gated;
};

double relu(double x) { return x > 0 ? x : 0; }

// An FFN with ReLU, its lines, and for each row and neuron a number by which it is selected.
struct Ffn {
  Ffn(const Formats& formats, int width, int rows)
      : formats(formats),
        width(width),
        rows(rows),
        up(formats.up, kNeurons, width, 1, loud(formats.up, {5, width - 1})),
        gate(formats.up, kNeurons, width, 2, loud(formats.up, {5, width - 1})),
        down(formats.down, kNeurons, width, 3, {}, loud(formats.down, {3, 71})) {}

  static std::vector<int32_t> loud(WeightFormat format, std::vector<int32_t> places) {
    return is_low_bit(format) ? places : std::vector<int32_t>();
  }

  // parts [bins, count, width] of rows [first, first + count).
  std::vector<float> run(int first, int count) const {
    const Stream stream;
    const std::vector<float> some(x.begin() + first * width, x.begin() + (first + count) * width);
    const std::vector<float> picks(z.begin() + first * kNeurons, z.begin() + (first + count) * kNeurons);
    const DeviceArray<float> device_x(some, stream), device_z(picks, stream), device_low(low, stream),
        device_high(high, stream), up_bias(bu, stream), gate_bias(bg, stream), slope(c, stream), gate_slope(e, stream),
        intercept(f, stream);
    const DeviceRows device_up(up.rows, stream), device_gate(gate.rows, stream), device_down(down.rows, stream);
    const DeviceSelection selection(kBins, stream);
    select_by_range(stream.get(), count, device_z.data(), device_low.data(), device_high.data(), selection);
    QuantisedRows quantised(width);
    const RowInput input = quantised.quantise(stream.get(), device_x.data(), count, device_up.view().protected_inputs,
                                              device_up.view().protected_input_count);
    const NeuronConstants constants{
        up_bias.data(), gate_bias.data(), {slope.data(), gate_slope.data(), intercept.data()}};
    const DeviceArray<int32_t> offsets(kBins, stream);
    const Shards shards{offsets.data(), int(kBins.size()) - 1, kNeurons, 0};
    // What stands in places of neurons that nobody selects is not read.
    const DeviceArray<float> residuals(std::vector<float>(size_t(count * kNeurons), NAN), stream),
        parts((kBins.size() - 1) * size_t(count * width));
    const ExactFfn exact{formats.gated ? device_gate.view() : Rows(), device_up.view(), device_down.view(), constants,
                         Activation::relu};
    exact_residuals(stream.get(), input, exact, selection, residuals.data());
    add_exact_rows(stream.get(), count, {exact.down}, shards, selection, residuals.data(), parts.data());
    return parts.to_host(stream);
  }

  bool selected(int row, int n) const { return std::fabs(z[size_t(row * kNeurons + n)]) > 1; }

  // r_n of equations 2 and 3. The lines' numbers are below 2 and each operation adds a rounding.
  Near residual(int row, int n) const {
    const size_t i = size_t(n);
    const Near product = dot(up, &x[size_t(row * width)], n);
    const double u = product.value + bu[i], u_tolerance = product.tolerance + std::fabs(u) * 0x1p-23;
    if (!formats.gated) {
      const double line = c[i] * u + f[i];
      return {relu(u) - line, (1 + std::fabs(c[i])) * u_tolerance + 0x1p-22 * (std::fabs(u) + std::fabs(line))};
    }
    const Near gate_product = dot(gate, &x[size_t(row * width)], n);
    const double g = gate_product.value + bg[i], g_tolerance = gate_product.tolerance + std::fabs(g) * 0x1p-23;
    const double line = e[i] * g + f[i], slope = relu(g) - c[i];
    return {slope * u - line, (std::fabs(slope) + g_tolerance) * u_tolerance +
                                  (std::fabs(u) + std::fabs(e[i])) * g_tolerance +
                                  0x1p-22 * ((std::fabs(g) + std::fabs(c[i])) * std::fabs(u) + std::fabs(line))};
  }

  Formats formats;
  int width, rows;
  RandomRows up, gate, down;
  std::vector<float> x = random_floats(size_t(rows * width), 10), z = random_floats(size_t(rows * kNeurons), 11),
                     low = std::vector<float>(kNeurons, -1), high = std::vector<float>(kNeurons, 1),
                     bu = random_floats(kNeurons, 12), bg = random_floats(kNeurons, 13),
                     c = random_floats(kNeurons, 14, 0.4f), e = random_floats(kNeurons, 15, 0.4f),
                     f = random_floats(kNeurons, 16, 0.4f);
};

class CudaFixUp : public testing::TestWithParam<Formats> {};

TEST_P(CudaFixUp, AgreesWithPlainLoopsInDouble) {
  for (const int width : {40, 330})
    for (const int rows : {1, 5}) {
      const Ffn ffn(GetParam(), width, rows);
      const std::vector<float> got = ffn.run(0, rows);
      // A bf16 row takes r in bf16; a term passes at most 145 additions and two more roundings.
      const double rounding = (GetParam().down == WeightFormat::bf16 ? 0x1p-8 : 0) + 147 * 0x1p-24;
      for (size_t bin = 0; bin + 1 < kBins.size(); ++bin)
        for (int row = 0; row < rows; ++row) {
          std::vector<Near> expected{size_t(width)};
          for (int n = kBins[bin]; n < kBins[bin + 1]; ++n) {
            if (!ffn.selected(row, n)) continue;
            const Near r = ffn.residual(row, n);
            for (int k = 0; k < width; ++k) {
              const size_t group = size_t(n * ffn.down.groups() + k / 64);
              const double weight = ffn.down.weight(n, k);
              // scale * code and the minimum may be larger than their sum.
              const double magnitude =
                  std::fabs(weight) + (is_low_bit(GetParam().down) ? 2 * std::fabs(ffn.down.minimum[group]) : 0);
              expected[size_t(k)].value += r.value * weight;
              expected[size_t(k)].tolerance += magnitude * (r.tolerance + rounding * std::fabs(r.value));
            }
          }
          for (int k = 0; k < width; ++k)
            ASSERT_NEAR(got[(bin * size_t(rows) + size_t(row)) * size_t(width) + size_t(k)], expected[size_t(k)].value,
                        expected[size_t(k)].tolerance)
                << "bin " << bin << ", row " << row << ", column " << k << " of " << width;
        }
    }
}

TEST_P(CudaFixUp, ARowHasTheSameBitsAloneAndAmongOthers) {
  const int width = 130, rows = 16;
  const Ffn ffn(GetParam(), width, rows);
  const std::vector<float> together = ffn.run(0, rows);
  for (const int row : {0, 7, 15}) {
    const std::vector<float> alone = ffn.run(row, 1);
    for (size_t bin = 0; bin + 1 < kBins.size(); ++bin)
      EXPECT_TRUE(same_bits(&alone[bin * width], &together[(bin * rows + size_t(row)) * width], width))
          << "bin " << bin << ", row " << row;
  }
}

std::vector<Formats> formats() {
  std::vector<Formats> out;
  for (const WeightFormat up :
       {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4, WeightFormat::planes3})
    for (const WeightFormat down : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int6,
                                    WeightFormat::int5, WeightFormat::planes4})
      if (is_low_bit(up) == is_low_bit(down) && (is_low_bit(up) || up == down))
        for (const bool gated : {false, true}) out.push_back({up, down, gated});
  return out;
}

INSTANTIATE_TEST_SUITE_P(Formats, CudaFixUp, testing::ValuesIn(formats()), [](const auto& info) {
  return concat(name_of(info.param.up), "_", name_of(info.param.down), info.param.gated ? "_gated" : "_plain");
});

}  // namespace
}  // namespace pleat::cuda
