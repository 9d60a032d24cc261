// What a folded layer reads at a batch: the union of neurons of rows that share no context.
#include "core/fold/layer_report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

TEST(LayerReport, ABatchReadsTheUnionOfRowsThatStandFarApart) {
  constexpr int64_t kDistinct = 128, kEqual = 16;  // neighbours
  Context ctx(1, false);
  const FfnTensors ffn = random_ffn(32, 100);
  const Table distinct = random_table(kDistinct, 32, 1, 9);
  Table sample(kDistinct * kEqual, 32);
  for (int64_t row = 0; row < sample.rows; ++row) std::copy_n(distinct[row / kEqual], 32, sample[row]);
  LayerFold fold;
  fold.spec.lines = false;
  fold.predictor = gptq(ctx, ffn.up.view(), {}, 2);
  fold.low.assign(100, -10), fold.high.assign(100, 1);
  fold.bias = ffn.down_bias;
  const FoldedLayer layer(ffn, fold, Activation::gelu_new, WeightFormat::f32);
  FfnBytes bytes;
  bytes.fixed = 1000, bytes.per_neuron = 10;
  const LayerMeasurement measured =
      measure_layer(ctx, layer, sample, layer.output(ctx, FfnForm::dense, sample.view()), bytes, 100);
  const LayerReport& report = measured.report;
  EXPECT_GT(report.fallback, 0.05);
  EXPECT_LT(report.fallback, 0.3);
  EXPECT_NEAR(report.read[0], 1000 + 10 * 100 * report.fallback, 1e-6);
  // Rows that know nothing of each other: each neuron is missed by all with the product of the chances.
  for (size_t b = 0; b < kReportBatches.size(); ++b) {
    double expected = 0;
    for (const double frequency : measured.frequency) expected += 1 - std::pow(1 - frequency, kReportBatches[b]);
    EXPECT_NEAR(report.read[b], 1000 + 10 * expected, 0.1 * 10 * expected) << kReportBatches[b];
  }
  EXPECT_GT(report.read[1], 1000 + 2 * (report.read[0] - 1000));
}

}  // namespace
}  // namespace pleat
