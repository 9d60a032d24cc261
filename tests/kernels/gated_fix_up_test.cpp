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
                     down = random_floats(kNeurons * kWidth, 10, 0.1f), predicted = random_floats(kRows * kNeurons, 11),
                     gate_bias = random_floats(kNeurons, 12), gate_weights = random_floats(kNeurons * kWidth, 13, 0.1f);
  NeuronRows up_rows{WeightFormat::f32, kNeurons, kWidth}, down_rows{WeightFormat::f32, kNeurons, kWidth},
      gate_rows{WeightFormat::f32, kNeurons, kWidth};
  Selection selection{{0, 20, 20, 51, kNeurons}};
  static constexpr float kThreshold = 0.8f;

  Gated() {
    for (float& value : factor) value = std::fabs(value);
    up_rows.pack(0, 0, {up.data(), DType::f32, kNeurons, kWidth, kWidth, 1});
    down_rows.pack(0, 0, {down.data(), DType::f32, kNeurons, kWidth, kWidth, 1});
    gate_rows.pack(0, 0, {gate_weights.data(), DType::f32, kNeurons, kWidth, kWidth, 1});
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
    fix_up_gated(ctx, rows(x, kWidth, begin, count), up_rows, down_rows, bias.data(), lines(),
                 {rows(gate, kNeurons, begin, count), rows(activated, kNeurons, begin, count)}, selection,
                 leaves.data());
    return leaves;
  }
  GatedLines lines() const { return {c.data(), e.data(), f.data()}; }

  // The same with `gate` as the predictions of g and `predicted` of u, and the gate's own rows gathered.
  std::vector<float> run_predicted(Context& ctx, int64_t begin, int64_t count) {
    select_by_residual(ctx, rows(predicted, kNeurons, begin, count), rows(gate, kNeurons, begin, count),
                       Activation::silu, lines(), factor.data(), kThreshold, selection);
    std::vector<float> leaves(4 * count * kWidth);
    fix_up_gated(ctx, rows(x, kWidth, begin, count), gate_rows, up_rows, down_rows, gate_bias.data(), bias.data(),
                 lines(), Activation::silu, selection, leaves.data());
    return leaves;
  }
  bool is_predicted(int64_t row, int64_t n) const {
    const double g = gate[size_t(row * kNeurons + n)], u = predicted[size_t(row * kNeurons + n)];
    const double line = double(c[size_t(n)]) * u + double(e[size_t(n)]) * g + f[size_t(n)];
    return std::fabs(silu(g) * u - line) * double(factor[size_t(n)]) > kThreshold;
  }
  static double silu(double g) { return g / (1 + std::exp(-g)); }
  double dot(int64_t row, const std::vector<float>& weights, int64_t n) const {
    double sum = 0;
    for (int64_t i = 0; i < kWidth; ++i) sum += double(x[size_t(row * kWidth + i)]) * weights[size_t(n * kWidth + i)];
    return sum;
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
          const double u = t.dot(row, t.up, n) + double(t.bias[n]);
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

TEST(GatedFixUp, WithPredictedGatesGathersTheGatesRowsToo) {
  for (Isa isa : isas_here()) {
    Gated t;
    Context ctx(2, true, isa);
    const std::vector<float> leaves = t.run_predicted(ctx, 0, Gated::kRows);
    int64_t exact = 0;
    for (int64_t row = 0; row < Gated::kRows; ++row)
      for (int leaf = 0; leaf < 4; ++leaf) {
        std::vector<double> expected(Gated::kWidth);
        for (int64_t n = t.selection.leaf_offsets[leaf]; n < t.selection.leaf_offsets[leaf + 1]; ++n) {
          if (!t.is_predicted(row, n)) continue;
          ++exact;
          const double u = t.dot(row, t.up, n) + double(t.bias[n]);
          const double g = t.dot(row, t.gate_weights, n) + double(t.gate_bias[n]);
          const double r = Gated::silu(g) * u - (double(t.c[n]) * u + double(t.e[n]) * g + double(t.f[n]));
          for (int64_t i = 0; i < Gated::kWidth; ++i) expected[i] += r * t.down[n * 90 + i];
        }
        for (int64_t i = 0; i < Gated::kWidth; ++i)
          ASSERT_NEAR(leaves[(leaf * Gated::kRows + row) * Gated::kWidth + i], expected[i], 2e-5) << name_of(isa);
      }
    EXPECT_GT(exact, 50);
    EXPECT_LT(exact, Gated::kRows * Gated::kNeurons - 50);
  }
}

TEST(GatedFixUp, WithPredictedGatesGivesARowTheSameBitsAloneAndOnEveryInstructionSet) {
  Gated t;
  Context plain(1, false, Isa::portable);
  const std::vector<float> together = t.run_predicted(plain, 0, Gated::kRows);
  for (Isa isa : isas_here())
    for (int threads : {1, 3}) {
      Context ctx(threads, true, isa);
      EXPECT_TRUE(same_bits(t.run_predicted(ctx, 0, Gated::kRows), together)) << name_of(isa);
      for (int64_t row = 0; row < Gated::kRows; ++row) {
        const std::vector<float> alone = t.run_predicted(ctx, row, 1);
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
  t.selection.clear();
  for (float& value : t.predicted) value = NAN;
  select_by_residual(ctx, t.rows(t.predicted, 70, 0, 1), t.rows(t.gate, 70, 0, 1), Activation::silu, t.lines(),
                     t.factor.data(), 1e30f, t.selection);
  EXPECT_EQ(t.selection.count(), Gated::kNeurons);
}

}  // namespace
}  // namespace pleat
