// Folding of gated FFNs: the lines, the identity with the dense function, and a folded model in the engine.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>

#include "core/fold/fold.h"
#include "core/fold/layer_gates.h"
#include "core/fold/layer_ranges.h"
#include "kernels/check.h"
#include "tests/core/engine/run.h"
#include "tests/core/fold/random_ffn.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

constexpr int64_t kHidden = 48, kNeurons = 80, kRows = 1500;

double silu(double g) { return g / (1 + std::exp(-g)); }

class GatedFold : public testing::Test {
 protected:
  GatedFold() : ffn(random_ffn(kHidden, kNeurons)) {
    ffn.gate = random_table(kNeurons, kHidden, 1.5 / std::sqrt(double(kHidden)), 21);
    ffn.gate_bias = random_table(1, kNeurons, 0.5, 22).data;
    x = correlated_rows(kRows, kHidden, 23);
  }
  double up(int64_t row, int64_t n) const { return dot(row, ffn.up[n]) + ffn.up_bias[size_t(n)]; }
  double gate(int64_t row, int64_t n) const { return dot(row, ffn.gate[n]) + ffn.gate_bias[size_t(n)]; }
  double dot(int64_t row, const float* w) const {
    double sum = 0;
    for (int64_t i = 0; i < kHidden; ++i) sum += double(x[row][i]) * w[i];
    return sum;
  }
  // The dense FFN, or another value for each neuron, in double precision.
  template <class Value>
  double worst(const Table& y, Value value) const {
    double worst = 0;
    for (int64_t row = 0; row < 40; ++row) {
      std::vector<double> expected(ffn.down_bias.begin(), ffn.down_bias.end());
      for (int64_t n = 0; n < kNeurons; ++n) {
        const double h = value(row, n);
        for (int64_t i = 0; i < kHidden; ++i) expected[size_t(i)] += h * ffn.down[n][i];
      }
      for (int64_t i = 0; i < kHidden; ++i) worst = std::max(worst, std::fabs(y[row][i] - expected[size_t(i)]));
    }
    return worst;
  }

  GatePredictors predictors() { return {gptq(ctx, ffn.gate.view(), {}, 2), gptq(ctx, ffn.up.view(), {}, 2)}; }
  // Folded with candidate `choice`, C neither corrected nor rounded.
  LayerFold plain_fold(GatePredictors predictors, size_t choice) {
    const LayerGates gates = fit_layer_gates(ctx, ffn, true, std::move(predictors), Activation::silu, x);
    LayerFold fold = build_gated_fold(ctx, ffn, gates, choice, Activation::silu, x, {.format = WeightFormat::bf16});
    fold.bias = fold_bias(ffn, fold);
    fold.fold.value = fold_weight(ctx, ffn, fold);
    return fold;
  }

  Context ctx{1, false};
  FfnTensors ffn;
  Table x;
};

TEST_F(GatedFold, LinesAreLeastSquaresOverTheTokensThatUseThem) {
  const LayerGates gates = fit_layer_gates(ctx, ffn, true, {}, Activation::silu, x);
  for (size_t i = 0; i < kOutsideShares.size(); ++i) {
    const GateCandidate& candidate = gates.candidates[i];
    EXPECT_NEAR(candidate.outside, kOutsideShares[i], 0.02);
    if (i > 0) {
      EXPECT_LE(candidate.error, gates.candidates[i - 1].error) << i;
    }
  }
  // Without exact neurons the residual of a least-squares line is at right angles to u, g and 1.
  const GateCandidate& all = gates.candidates[0];
  for (int64_t n = 0; n < kNeurons; n += 7) {
    double with_u = 0, with_g = 0, with_1 = 0, scale = 0;
    for (int64_t row = 0; row < kRows; ++row) {
      const double u = up(row, n), g = gate(row, n), h = silu(g) * u;
      const double rest = h - (all.up_slope[size_t(n)] * u + all.gate_slope[size_t(n)] * g + all.intercept[size_t(n)]);
      with_u += rest * u, with_g += rest * g, with_1 += rest, scale += h * h;
    }
    for (const double product : {with_u, with_g, with_1}) EXPECT_LT(std::fabs(product), 1e-3 * scale + 1e-3) << n;
  }
}

TEST_F(GatedFold, FallingBackOnEveryNeuronEqualsTheDenseFfn) {
  for (bool predicted : {false, true}) {
    LayerFold fold = plain_fold(predicted ? predictors() : GatePredictors{}, 0);
    fold.threshold = -1;
    const FoldedLayer layer(ffn, fold, Activation::silu, WeightFormat::f32);
    for (FfnForm form : {FfnForm::folded, FfnForm::dense})
      EXPECT_LT(worst(layer.output(ctx, form, x.view()),
                      [&](int64_t row, int64_t n) { return silu(gate(row, n)) * up(row, n); }),
                1e-4);
  }
}

TEST_F(GatedFold, AShareIsFittedOverThoseBelowIt) {
  EXPECT_EQ(shares_through(.3), std::vector<double>(kOutsideShares.begin(), kOutsideShares.end()));
  EXPECT_EQ(shares_through(.03), (std::vector<double>{0, .01, .02, .03}));
  const LayerGates all = fit_layer_gates(ctx, ffn, true, {}, Activation::silu, x);
  const LayerGates some = fit_layer_gates(ctx, ffn, true, {}, Activation::silu, x, shares_through(.35));
  ASSERT_EQ(some.candidates.size(), 10u);
  EXPECT_NEAR(some.candidates[9].outside, .35, .02);
  for (size_t i = 0; i < 9; ++i) EXPECT_EQ(some.candidates[i].up_slope, all.candidates[i].up_slope) << i;
  EXPECT_LT(some.candidates[9].error, all.candidates[8].error);
  EXPECT_GT(some.candidates[9].error, all.candidates[9].error);
}

TEST_F(GatedFold, ComputesExactlyTheNeuronsWhoseGateIsFarAndTheOthersByTheirLine) {
  const LayerFold fold = plain_fold({}, 8);
  const FoldedLayer layer(ffn, fold, Activation::silu, WeightFormat::f32);
  EXPECT_LT(worst(layer.output(ctx, FfnForm::folded, x.view()),
                  [&](int64_t row, int64_t n) {
                    const double u = up(row, n), g = gate(row, n);
                    const size_t i = size_t(n);
                    if (std::fabs(silu(g) - fold.slope[i]) * fold.factor[i] > fold.threshold) return silu(g) * u;
                    return fold.slope[i] * u + fold.gate_slope[i] * g + double(fold.intercept[i]);
                  }),
            1e-3);
}

TEST_F(GatedFold, WithPredictorsComputesExactlyTheNeuronsWhoseResidualTheyPredictLarge) {
  const LayerFold fold = plain_fold(predictors(), 8);
  const FoldedLayer layer(ffn, fold, Activation::silu, WeightFormat::f32);
  Table u(kRows, kNeurons), g(kRows, kNeurons);
  predict(ctx, x.view(), fold.predictor.packed(0, kNeurons), ffn.up_bias.data(), u.view());
  predict(ctx, x.view(), fold.gate_predictor.packed(0, kNeurons), ffn.gate_bias.data(), g.view());
  int64_t exact = 0, wanted = 0, both = 0;
  const auto line = [&](size_t n, double u, double g) {
    return fold.slope[n] * u + fold.gate_slope[n] * g + double(fold.intercept[n]);
  };
  const auto is_far = [&](int64_t n, double u, double g) {
    return std::fabs(silu(g) * u - line(size_t(n), u, g)) * fold.factor[size_t(n)] > fold.threshold;
  };
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t n = 0; n < kNeurons; ++n) {
      const bool found = is_far(n, u[row][n], g[row][n]), is_wanted = is_far(n, up(row, n), gate(row, n));
      exact += found, wanted += is_wanted, both += found && is_wanted;
    }
  EXPECT_NEAR(double(exact) / double(kRows * kNeurons), kOutsideShares[8], 0.02);
  EXPECT_GT(double(both), 0.6 * double(wanted));  // the predictors know most of it
  EXPECT_LT(worst(layer.output(ctx, FfnForm::folded, x.view()),
                  [&](int64_t row, int64_t n) {
                    if (is_far(n, u[row][n], g[row][n])) return silu(gate(row, n)) * up(row, n);
                    return line(size_t(n), up(row, n), gate(row, n));
                  }),
            1e-3);
}

// A tiny Llama with biases everywhere, folded once with each selection.
class GatedEngine : public testing::TestWithParam<SelectionKind> {
 protected:
  static void SetUpTestSuite() {
    scratch_.emplace();
    folder_ = scratch_->path();
    for (const char* file : {"llama-3.1/config.json", "llama-3.1/model.safetensors", "tokenizer.json"})
      std::filesystem::copy(fixture(std::string("families/") + file), folder_);
    FoldOptions options;
    options.model = folder_;
    options.text = std::string(PLEAT_SOURCE_DIR) + "/examples/calibration.txt";
    options.reduction = 0.3;
    options.max_tokens = 4096;
    for (SelectionKind kind : {SelectionKind::gate, SelectionKind::predictor}) {
      options.selection = kind;
      options.out = folded(kind);
      reports_[kind] = fold_model(options);
    }
  }
  static std::string folded(SelectionKind kind) { return folder_ + "/by-" + std::string(name_of(kind)); }
  static void TearDownTestSuite() { scratch_.reset(); }

  static std::vector<float> logits(int ranks, WeightFormat dtype, int chunk, bool decode, bool dense = false) {
    std::vector<int32_t> ids;
    for (int i = 0; i < 40; ++i) ids.push_back(2 + i * 37 % 250);
    LoadOptions options;
    options.dtype = dtype;
    options.dense = dense;
    std::vector<float> all;
    with_engine(folded(GetParam()), ranks, options,
                [&](Engine& engine, Communicator& c) { all = run_tokens(engine, c, ids, chunk, decode); });
    return all;
  }

  static inline std::optional<TemporaryFolder> scratch_;
  static inline std::string folder_;
  static inline std::map<SelectionKind, FoldReport> reports_;
};

TEST_P(GatedEngine, LogitsHaveTheSameBitsOnAnyNumberOfRanksAndInAnyChunks) {
  for (WeightFormat dtype : {WeightFormat::f32, WeightFormat::bf16}) {
    const std::vector<float> alone = logits(1, dtype, 64, true);
    for (int ranks : {2, 3, 4, 7, 33}) EXPECT_EQ(logits(ranks, dtype, 64, true), alone) << ranks << " ranks";
    for (int chunk : {1, 7}) EXPECT_EQ(logits(2, dtype, chunk, true), alone) << chunk;
  }
}

TEST_P(GatedEngine, PromptsRunDenselyFromTheSameWeights) {
  EXPECT_EQ(logits(2, WeightFormat::f32, 64, false), logits(1, WeightFormat::f32, 64, true, true));
  EXPECT_NE(logits(1, WeightFormat::f32, 64, false), logits(1, WeightFormat::f32, 64, true));
}

TEST_P(GatedEngine, TheReportCountsWhatTheSelectionReads) {
  const FoldReport& report = reports_[GetParam()];
  const FfnBytes bytes = ffn_bytes({.selection = GetParam()}, {}, true, 72, 130);
  EXPECT_EQ(report.recipe[0].selection, GetParam());
  EXPECT_EQ(bytes.dense, 3 * 72 * 130 * 2);
  const int64_t fold = 72 * 72 + 2 * 72 * 2 + 72 * 4;
  if (GetParam() == SelectionKind::gate) {
    EXPECT_EQ(bytes.fixed, fold + 72 * 130 * 2 + 3 * 130 * 4);
    EXPECT_EQ(bytes.stored, bytes.dense + fold + 7 * 130 * 4);
  } else {
    EXPECT_EQ(bytes.fixed, fold + 2 * 130 * (18 + 2 * 2 * 2) + 6 * 130 * 4);
    EXPECT_EQ(bytes.per_neuron, 3 * 72 * 2);
  }
  EXPECT_GE(report.reduction, 0.29);
  EXPECT_GT(report.total.fallback, 0.05);
  EXPECT_LT(report.total.error, report.total.error_dropped);
}

INSTANTIATE_TEST_SUITE_P(Both, GatedEngine, testing::Values(SelectionKind::gate, SelectionKind::predictor),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(GatedEngine, ASelectionForPlainFfnsIsRefused) {
  FoldOptions options;
  options.model = folder_;
  options.text = std::string(PLEAT_SOURCE_DIR) + "/examples/calibration.txt";
  options.out = folder_ + "/other";
  options.selection = SelectionKind::range;
  EXPECT_THROW(fold_model(options), Error);
  options.selection = GetParam();
  options.reduction = 0.9;  // what selects is more than that alone
  EXPECT_THROW(fold_model(options), Error);
}

}  // namespace
}  // namespace pleat::test
