// The exact part of a gated FFN against plain loops in double precision.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/neuron_rows.h"
#include "vectors.h"

namespace pleat {
namespace {

struct Gated {
  static constexpr int64_t kRows = 5, kNeurons = 70, kWidth = 90;
  std::vector<float> x = random_floats(kRows * kWidth, 1), gate = random_floats(kRows * kNeurons, 2),
                     activated = random_floats(kRows * kNeurons, 3), bias = random_floats(kNeurons, 4),
                     c = random_floats(kNeurons, 5), e = random_floats(kNeurons, 6), f = random_floats(kNeurons, 7),
                     factor = random_floats(kNeurons, 8), up = random_floats(kNeurons * kWidth, 9, 0.1f),
                     down = random_floats(kNeurons * kWidth, 10, 0.1f);
  NeuronRows up_rows{WeightFormat::f32, kNeurons, kWidth}, down_rows{WeightFormat::f32, kNeurons, kWidth};
  Selection selection{{0, 20, 20, 51, kNeurons}};
  static constexpr float kThreshold = 0.8f;

  Gated() {
    for (float& value : factor) value = std::fabs(value);
    up_rows.pack(0, 0, {up.data(), DType::f32, kNeurons, kWidth, kWidth, 1});
    down_rows.pack(0, 0, {down.data(), DType::f32, kNeurons, kWidth, kWidth, 1});
  }
  MatrixView<const float> rows(const std::vector<float>& values, int64_t width, int64_t begin, int64_t count) const {
    return {values.data() + begin * width, count, width};
  }
  bool is_exact(int64_t row, int64_t n) const {
    return std::fabs(activated[size_t(row * kNeurons + n)] - c[size_t(n)]) * factor[size_t(n)] > kThreshold;
  }
  // leaves [leaves][count, width] of rows [begin, begin + count).
  std::vector<float> run(Context& ctx, int64_t begin, int64_t count) {
    select_by_gate(ctx, rows(activated, kNeurons, begin, count), c.data(), factor.data(), kThreshold, selection);
    std::vector<float> leaves(4 * count * kWidth);
    const GatedResidual residual{bias.data(),
                                 c.data(),
                                 e.data(),
                                 f.data(),
                                 rows(gate, kNeurons, begin, count),
                                 rows(activated, kNeurons, begin, count)};
    fix_up_gated(ctx, rows(x, kWidth, begin, count), up_rows, down_rows, residual, selection, leaves.data());
    return leaves;
  }
};

TEST(GatedFixUp, AddsTheResidualsOfTheNeuronsWhoseGateIsFarFromTheFold) {
  for (Isa isa : isas_here()) {
    Gated t;
    Context ctx(2, true, isa);
    const std::vector<float> leaves = t.run(ctx, 0, Gated::kRows);
    int64_t exact = 0;
    for (int64_t row = 0; row < Gated::kRows; ++row)
      for (int leaf = 0; leaf < 4; ++leaf) {
        std::vector<double> expected(Gated::kWidth);
        for (int64_t n = t.selection.leaf_offsets[leaf]; n < t.selection.leaf_offsets[leaf + 1]; ++n) {
          if (!t.is_exact(row, n)) continue;
          ++exact;
          double u = t.bias[n];
          for (int64_t i = 0; i < Gated::kWidth; ++i) u += double(t.x[row * 90 + i]) * t.up[n * 90 + i];
          const double r = double(t.activated[row * 70 + n]) * u -
                           (double(t.c[n]) * u + double(t.e[n]) * t.gate[row * 70 + n] + t.f[n]);
          for (int64_t i = 0; i < Gated::kWidth; ++i) expected[i] += r * t.down[n * 90 + i];
        }
        for (int64_t i = 0; i < Gated::kWidth; ++i)
          ASSERT_NEAR(leaves[(leaf * Gated::kRows + row) * Gated::kWidth + i], expected[i], 2e-5) << name_of(isa);
      }
    EXPECT_GT(exact, 50);
    EXPECT_LT(exact, Gated::kRows * Gated::kNeurons - 50);
  }
}

TEST(GatedFixUp, GivesARowTheSameBitsAloneInABatchAndOnEveryInstructionSet) {
  Gated t;
  Context plain(1, false, Isa::portable);
  const std::vector<float> together = t.run(plain, 0, Gated::kRows);
  for (Isa isa : isas_here())
    for (int threads : {1, 3}) {
      Context ctx(threads, true, isa);
      EXPECT_TRUE(same_bits(t.run(ctx, 0, Gated::kRows), together)) << name_of(isa);
      for (int64_t row = 0; row < Gated::kRows; ++row) {
        const std::vector<float> alone = t.run(ctx, row, 1);
        for (int leaf = 0; leaf < 4; ++leaf)
          EXPECT_TRUE(same_bits(&alone[leaf * 90], &together[(leaf * Gated::kRows + row) * 90], 90)) << row;
      }
    }
}

TEST(GatedFixUp, SelectsNotANumber) {
  Gated t;
  for (float& value : t.activated) value = NAN;
  Context ctx(1, false);
  select_by_gate(ctx, t.rows(t.activated, 70, 0, 1), t.c.data(), t.factor.data(), 1e30f, t.selection);
  EXPECT_EQ(t.selection.count(), Gated::kNeurons);
}

}  // namespace
}  // namespace pleat
