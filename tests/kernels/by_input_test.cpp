// Products with rows that stand by input, of all inputs and of each row's own.
#include <gtest/gtest.h>

#include "low_bit_rows_fixture.h"
#include "tests/kernels/matmul_fixture.h"

namespace pleat {
namespace {

constexpr int64_t kInputs = 150, kMostRows = 9;

std::vector<WeightFormat> row_formats() {
  std::vector<WeightFormat> out = {WeightFormat::f32, WeightFormat::bf16};
  out.insert(out.end(), std::begin(kRowFormats), std::end(kRowFormats));
  return out;
}

// Leaves of 64 inputs, as the engine has them; inputs 17 and 140 are loud.
struct Product {
  static constexpr float kThreshold = 0.7f;
  static constexpr int64_t kLeaf = 64;
  RandomRows w;
  std::vector<float> x = random_floats(size_t(kMostRows * kInputs), 1), bias;

  Product(WeightFormat format, int64_t width)
      : w(format, kInputs, width, 11, {}, is_low_bit(format) ? std::vector<int32_t>{17, 140} : std::vector<int32_t>()),
        bias(random_floats(size_t(width), 2)) {
    for (int64_t row = 0; row < kMostRows; ++row) x[size_t(row * kInputs + 17)] *= 300;
  }

  std::vector<float> run(Isa isa, int threads, int64_t first = 0, int64_t rows = kMostRows) const {
    Context ctx(threads, true, isa);
    Selection selection({0, kLeaf, 2 * kLeaf, kInputs});
    const MatrixView<const float> mine(&x[size_t(first * kInputs)], rows, kInputs);
    select_by_magnitude(ctx, mine, kThreshold, selection);
    std::vector<float> y(size_t(rows * w.width), NAN);
    matmul_selected(ctx, mine, w.rows, bias.data(), selection, {y.data(), rows, w.width});
    return y;
  }

  // What x means to the weights of a group of outputs: itself, in bf16, or in 8 bits times the scales, a leaf at a
  // time.
  Near expected(int64_t row, int64_t k) const {
    Near out{bias[size_t(k)], std::fabs(bias[size_t(k)]) * 0x1p-23};
    const auto is_loud = [&](int64_t i) { return std::count(w.loud_neurons.begin(), w.loud_neurons.end(), i) > 0; };
    const auto value = [&](int64_t i) { return x[size_t(row * kInputs + i)]; };
    const auto scale = [&](int64_t i) { return w.scale[size_t(i * w.groups() + k / 64)]; };
    for (int64_t begin = 0; begin < kInputs; begin += kLeaf) {
      const int64_t end = std::min(begin + kLeaf, kInputs);
      float step = 0;
      for (int64_t i = begin; i < end && is_low_bit(w.format); ++i)
        if (std::fabs(value(i)) > kThreshold && !is_loud(i))
          step = std::max(step, std::fabs(value(i) * scale(i)) / 127);
      for (int64_t i = begin; i < end; ++i) {
        if (!(std::fabs(value(i)) > kThreshold)) continue;
        const double seen = w.format == WeightFormat::bf16 ? rounded_to_bf16(value(i)) : value(i);
        out.value += seen * w.weight(i, k);
        out.tolerance += std::fabs(seen * w.weight(i, k)) * double(kInputs) * 0x1p-24;
        if (!is_low_bit(w.format) || is_loud(i)) continue;
        const double middle = w.format == WeightFormat::int8 ? 0
                              : has_planes(w.format)         ? 64
                                                             : std::exp2(bits_of(w.format) - 1);
        const double around = w.codes[size_t(i * w.width + k)] - middle, product = double(value(i) * scale(i));
        out.value += around * (double(step) * std::nearbyint(value(i) * scale(i) / step) - product);
        out.tolerance += 64 * 0x1p-24 * std::fabs(around * product);
      }
    }
    return out;
  }
};

TEST(ByInput, SelectedInputsAgreeWithPlainLoopsInDouble) {
  for (const WeightFormat format : row_formats())
    for (const int64_t width : {40, 600}) {
      const Product t(format, width);
      std::vector<Near> expected;
      for (int64_t i = 0; i < kMostRows * width; ++i) expected.push_back(t.expected(i / width, i % width));
      for (const Isa isa : isas_here()) {
        const std::vector<float> y = t.run(isa, 2);
        for (size_t i = 0; i < y.size(); ++i)
          ASSERT_NEAR(y[i], expected[i].value, expected[i].tolerance + 1e-6)
              << name_of(isa) << " " << name_of(format) << " width " << width << " at " << i;
      }
    }
}

TEST(ByInput, ARowHasTheSameBitsOnAnyThreadsAndInstructionSetAloneAndInABatch) {
  for (const WeightFormat format : row_formats()) {
    const int64_t width = 600;
    const Product t(format, width);
    const std::vector<float> reference = t.run(Isa::portable, 1);
    for (const Isa isa : isas_here()) {
      EXPECT_TRUE(same_bits(t.run(isa, 3), reference)) << name_of(isa) << " " << name_of(format);
      for (int64_t first = 0, count = 1; first < kMostRows; first += count, count = first % 5 + 1) {
        count = std::min(count, kMostRows - first);
        const std::vector<float> few = t.run(isa, 1, first, count);
        ASSERT_TRUE(same_bits(few.data(), &reference[size_t(first * width)], few.size()))
            << name_of(isa) << " " << name_of(format) << " row " << first;
      }
    }
  }
}

TEST(ByInput, AllInputsGiveTheBitsOfThePackedProduct) {
  for (const Isa isa : isas()) {
    Context ctx(2, true, isa);
    for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16})
      for (const int64_t width : {1, 33, 200})
        for (const int64_t rows : {1, 13}) {
          const RandomWeights w(format, kInputs, width, {0, kInputs});
          NeuronRows by_input(format, kInputs, width);
          by_input.pack(0, 0, {w.values.data(), DType::f32, kInputs, width, width, 1});
          const std::vector<float> x = random_floats(size_t(rows * kInputs), 7), bias = random_floats(size_t(width), 5);
          std::vector<float> y(size_t(rows * width), NAN);
          matmul_by_input(ctx, {x.data(), rows, kInputs}, by_input, bias.data(), {y.data(), rows, width});
          ASSERT_EQ(y, matmul_of(ctx, x, rows, w.packed, bias.data()))
              << name_of(isa) << " " << name_of(format) << " " << rows << " " << width;
        }
  }
}

TEST(Selection, ByMagnitudeTakesWhatIsAboveTheThresholdAndNotANumber) {
  Context ctx(2, true);
  Selection selection({0, 3, 5});
  const std::vector<float> values = {1, -2, 2.5f, 0, NAN, -3, 2, -2.5f, 9, 1};
  select_by_magnitude(ctx, {values.data(), 2, 5}, 2, selection);
  EXPECT_EQ(selection.leaf_begin, (std::vector<int32_t>{0, 2, 4}));
  selection.neuron.resize(4), selection.rows.resize(4);
  EXPECT_EQ(selection.neuron, (std::vector<int32_t>{0, 2, 3, 4}));
  EXPECT_EQ(selection.rows, (std::vector<uint32_t>{2, 3, 2, 1}));
}

}  // namespace
}  // namespace pleat
