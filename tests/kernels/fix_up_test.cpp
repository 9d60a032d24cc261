#include <gtest/gtest.h>

#include <cmath>

#include "kernels/neuron_rows.h"
#include "vectors.h"

namespace pleat {
namespace {

double relu(double z) { return z > 0 ? z : 0; }

// A small FFN, its fold's lines and a random selection for `rows` rows.
struct Ffn {
  Ffn(WeightFormat format, int64_t neurons, int64_t width, int64_t rows)
      : format(format),
        neurons(neurons),
        width(width),
        rows(rows),
        x(random_floats(size_t(rows * width), 1)),
        w1(random_floats(size_t(neurons * width), 2, 1 / std::sqrt(float(width)))),
        w2(random_floats(size_t(neurons * width), 3, 1 / std::sqrt(float(neurons)))),
        bias(random_floats(size_t(neurons), 4)),
        slope(random_floats(size_t(neurons), 5, 0.3f)),
        intercept(random_floats(size_t(neurons), 6, 0.3f)),
        up(format, neurons, width),
        down(format, neurons, width),
        selection({0, neurons / 3, neurons / 3, neurons / 2 + 1, neurons}) {
    if (format == WeightFormat::bf16)
      for (std::vector<float>* values : {&w1, &w2})
        for (float& value : *values) value = rounded_to_bf16(value);
    up.pack(0, 0, {w1.data(), DType::f32, neurons, width, width, 1});
    down.pack(0, 0, {w2.data(), DType::f32, neurons, width, width, 1});
  }

  void select(double share, uint32_t seed) {
    std::mt19937 generator(seed);
    std::bernoulli_distribution chosen(share);
    selection.clear();
    int32_t count = 0;
    for (int leaf = 0; leaf < leaves(); ++leaf) {
      for (int64_t neuron = selection.leaf_offsets[leaf]; neuron < selection.leaf_offsets[leaf + 1]; ++neuron) {
        uint32_t mask = 0;
        for (int64_t row = 0; row < rows; ++row) mask |= uint32_t(chosen(generator)) << row;
        if (mask == 0) continue;
        selection.neuron[count] = int32_t(neuron);
        selection.rows[count++] = mask;
      }
      selection.leaf_begin[leaf + 1] = count;
    }
  }

  // What fix_up sees of row `row` alone.
  Selection alone(int row) const {
    Selection one(selection.leaf_offsets);
    int32_t count = 0;
    for (int leaf = 0; leaf < leaves(); ++leaf) {
      for (int32_t i = selection.leaf_begin[leaf]; i < selection.leaf_begin[leaf + 1]; ++i) {
        if (!(selection.rows[i] >> row & 1)) continue;
        one.neuron[count] = selection.neuron[i];
        one.rows[count++] = 1;
      }
      one.leaf_begin[leaf + 1] = count;
    }
    return one;
  }

  int leaves() const { return int(selection.leaf_offsets.size()) - 1; }
  std::vector<float> start() const { return random_floats(size_t(leaves() * rows * width), 7); }
  Residual residual() const { return {bias.data(), slope.data(), intercept.data()}; }

  std::vector<float> run(Isa isa, int threads, Activation activation = Activation::gelu) const {
    Context ctx(threads, true, isa);
    std::vector<float> out = start();
    fix_up(ctx, {x.data(), rows, width}, up, down, residual(), activation, selection, out.data());
    return out;
  }

  double seen(float value) const { return format == WeightFormat::bf16 ? rounded_to_bf16(value) : value; }
  double z(int64_t row, int64_t neuron) const {
    double sum = bias[neuron];
    for (int64_t i = 0; i < width; ++i) sum += seen(x[row * width + i]) * w1[neuron * width + i];
    return sum;
  }

  WeightFormat format;
  int64_t neurons, width, rows;
  std::vector<float> x, w1, w2, bias, slope, intercept;
  NeuronRows up, down;
  Selection selection;
};

constexpr WeightFormat kFormats[] = {WeightFormat::f32, WeightFormat::bf16};

TEST(FixUp, AgreesWithPlainLoopsInDouble) {
  for (WeightFormat format : kFormats)
    for (int64_t width : {20, 64, 600}) {
      Ffn ffn(format, 70, width, 5);
      ffn.select(0.3, 1);
      const std::vector<float> start = ffn.start();
      std::vector<double> expected(start.begin(), start.end());
      for (int leaf = 0; leaf < ffn.leaves(); ++leaf)
        for (int32_t i = ffn.selection.leaf_begin[leaf]; i < ffn.selection.leaf_begin[leaf + 1]; ++i)
          for (int64_t row = 0; row < ffn.rows; ++row) {
            if (!(ffn.selection.rows[i] >> row & 1)) continue;
            const int64_t neuron = ffn.selection.neuron[i];
            const double z = ffn.z(row, neuron);
            const double r = relu(z) - (double(ffn.slope[neuron]) * z + ffn.intercept[neuron]);
            for (int64_t column = 0; column < width; ++column)
              expected[(leaf * ffn.rows + row) * width + column] += r * ffn.w2[neuron * width + column];
          }
      // |r| < 8, |w2| < 0.6, at most 35 neurons a leaf, of which about a third are chosen: each r is rounded to 2^-24
      // or 2^-9
      const double tolerance = format == WeightFormat::f32 ? 2e-5 : 12 * 0.3 * 2 * std::ldexp(1, -9);
      for (Isa isa : isas_here()) {
        const std::vector<float> out = ffn.run(isa, 2, Activation::relu);
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_NEAR(out[i], expected[i], tolerance) << name_of(isa) << ", " << i;
      }
    }
}

TEST(FixUp, GivesARowTheSameBitsAloneAndInABatch) {
  for (WeightFormat format : kFormats)
    for (Isa isa : isas_here()) {
      Ffn ffn(format, 61, 100, 32);
      ffn.select(0.2, 2);
      const std::vector<float> batch = ffn.run(isa, 1), start = ffn.start();
      Context ctx(1, false, isa);
      for (int row = 0; row < ffn.rows; ++row) {
        std::vector<float> out;
        for (int leaf = 0; leaf < ffn.leaves(); ++leaf) {
          const float* values = start.data() + (leaf * ffn.rows + row) * ffn.width;
          out.insert(out.end(), values, values + ffn.width);
        }
        fix_up(ctx, {ffn.x.data() + row * ffn.width, 1, ffn.width}, ffn.up, ffn.down, ffn.residual(), Activation::gelu,
               ffn.alone(row), out.data());
        for (int leaf = 0; leaf < ffn.leaves(); ++leaf)
          ASSERT_TRUE(
              same_bits(out.data() + leaf * ffn.width, batch.data() + (leaf * ffn.rows + row) * ffn.width, ffn.width))
              << name_of(isa) << ", row " << row;
      }
    }
}

TEST(FixUp, GivesTheSameBitsOnAnyThreadsAndInstructionSet) {
  for (WeightFormat format : kFormats)
    for (int64_t rows : {1, 7}) {
      Ffn ffn(format, 90, 1100, rows);
      ffn.select(0.3, 3);
      const std::vector<float> reference = ffn.run(Isa::portable, 1);
      for (Isa isa : isas_here())
        for (int threads : {1, 2, 3}) EXPECT_TRUE(same_bits(ffn.run(isa, threads), reference)) << name_of(isa);
    }
}

TEST(FixUp, GivesTheSameBitsWithRowsSideBySide) {
  for (WeightFormat format : kFormats) {
    Ffn ffn(format, 90, 1100, 3);
    ffn.select(0.3, 3);
    const std::vector<float> apart = ffn.run(detect_isa(), 2);
    lay_side_by_side(std::vector{&ffn.up, &ffn.down});
    EXPECT_EQ(ffn.down.row(0) - ffn.up.row(0), ffn.up.place_bytes());
    EXPECT_EQ(ffn.up.stride_bytes(), ffn.up.place_bytes() + ffn.down.place_bytes());
    EXPECT_TRUE(same_bits(ffn.run(detect_isa(), 2), apart));
  }
}

TEST(FixUp, WithNothingSelectedLeavesTheLeavesAlone) {
  Ffn ffn(WeightFormat::bf16, 40, 64, 3);
  EXPECT_TRUE(same_bits(ffn.run(detect_isa(), 2), ffn.start()));
}

TEST(FixUp, OfEveryNeuronOnTopOfTheFoldEqualsTheDenseFfn) {
  Ffn ffn(WeightFormat::f32, 200, 50, 4);
  ffn.select(1, 4);
  Context ctx(2, true);
  std::vector<float> leaves(size_t(ffn.leaves() * ffn.rows * ffn.width));
  fix_up(ctx, {ffn.x.data(), ffn.rows, ffn.width}, ffn.up, ffn.down, ffn.residual(), Activation::gelu, ffn.selection,
         leaves.data());
  const int64_t n = ffn.rows * ffn.width;
  std::vector<float> fixed(n);
  reduce_leaves(ctx, leaves.data(), 0, {{0, ffn.leaves()}}, n, fixed.data());

  // C = W1 diag(a) W2, B = (b1 a + c) W2
  const int64_t width = ffn.width;
  std::vector<double> fold(size_t(width * width)), fold_bias(width);
  for (int64_t neuron = 0; neuron < ffn.neurons; ++neuron)
    for (int64_t column = 0; column < width; ++column) {
      const double w2 = ffn.w2[neuron * width + column], slope = ffn.slope[neuron];
      fold_bias[column] += (ffn.bias[neuron] * slope + ffn.intercept[neuron]) * w2;
      for (int64_t input = 0; input < width; ++input)
        fold[input * width + column] += ffn.w1[neuron * width + input] * slope * w2;
    }
  for (int64_t row = 0; row < ffn.rows; ++row)
    for (int64_t column = 0; column < width; ++column) {
      double dense = 0, folded = fold_bias[column] + fixed[row * width + column];
      for (int64_t neuron = 0; neuron < ffn.neurons; ++neuron) {
        const double z = ffn.z(row, neuron);
        dense += z * 0.5 * std::erfc(-z / std::sqrt(2.0)) * ffn.w2[neuron * width + column];
      }
      for (int64_t input = 0; input < width; ++input)
        folded += ffn.x[row * width + input] * fold[input * width + column];
      // 200 residuals below 8 with weights of about 0.07, each off by a few 2^-24
      ASSERT_NEAR(folded, dense, 200 * 8 * 0.07 * 4 * std::ldexp(1, -24)) << row << ", " << column;
    }
}

}  // namespace
}  // namespace pleat
