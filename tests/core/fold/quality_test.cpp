// How far a changed model is from the dense one: over which tokens.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/option_meter.h"
#include "core/fold/quality.h"
#include "kernels/check.h"
#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

constexpr const char* kQualityModel = PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m";
constexpr int64_t kDenseRows = 32;

// Drops one layer's FFN behind a prompt.
class DroppedBehindAPrompt : public FfnHook {
 public:
  void ffn(int layer, const StepPlan& plan, MatrixView<const float>, MatrixView<float> y) override {
    for (int64_t row = 0; row < y.rows && layer == 3; ++row)
      if (plan.rows[size_t(row)].position >= kDenseRows) std::fill_n(y[row], y.cols, 0.0f);
  }
};

TEST(Quality, TokensOfAPromptDoNotDiluteWhatTheOthersLose) {
  DenseModel model(kQualityModel, WeightFormat::bf16, 2, true);
  const std::vector<Window> windows =
      spread_windows(Tokenizer::open(kQualityModel), PLEAT_SOURCE_DIR "/examples/heldout.txt", 64, 128);
  DroppedBehindAPrompt dropped;
  const std::vector<FfnHook*> hooks = {&dropped};
  const QualityComparison all = compare_with_dense(model, windows, hooks, 0),
                          behind = compare_with_dense(model, windows, hooks, kDenseRows);
  ASSERT_EQ(all.tokens, 2 * 63);
  ASSERT_EQ(behind.tokens, 2 * (63 - kDenseRows));
  const double sum = behind.variants[0].kl * double(behind.tokens);
  EXPECT_GT(sum, 0.1);
  EXPECT_NEAR(sum, all.variants[0].kl * double(all.tokens), 1e-6 * sum);

  try {
    compare_with_dense(model, windows, hooks, 63);
    FAIL() << "a mean over no tokens";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid);
  }
}

TEST(OptionMeter, TwoModelsAreComparedOnTheSameRows) {
  DenseModel model(kQualityModel, WeightFormat::bf16, 2, true);
  const std::vector<Window> windows =
      spread_windows(Tokenizer::open(kQualityModel), PLEAT_SOURCE_DIR "/examples/heldout.txt", 64, 64);
  OptionMeter meter(model, windows);
  const FfnTensors ffn = read_ffn(Checkpoint::open(kQualityModel), model.blueprint(), 3);
  LayerFold none;
  none.spec = {.selection = SelectionKind::all, .lines = false};
  none.bias = ffn.down_bias;
  FfnTensors nothing = ffn;
  std::fill(nothing.down.data.begin(), nothing.down.data.end(), 0.0f);
  const FoldedLayer dropped(nothing, none, model.blueprint().activation, WeightFormat::bf16);
  std::vector<const FoldedLayer*> layers(6, nullptr);
  layers[3] = &dropped;
  const double all = meter.kl(layers), behind = meter.kl(layers, kDenseRows);
  EXPECT_GT(behind, 0);
  EXPECT_NE(behind, all);
  EXPECT_THROW(meter.kl(layers, 63), Error);
}

// A layer whose folded output is the dense one and 1 more.
TEST(FoldedForm, RunsTheRowsOfAPromptDensely) {
  constexpr int64_t kWidth = 24, kLength = 6;
  Context ctx(1, false);
  const FfnTensors ffn = random_ffn(kWidth, 40);
  const Table x = random_table(kLength, kWidth, 1, 9);
  StepPlan plan;
  for (int position = 0; position < kLength; ++position) plan.rows.push_back({0, position, 0, 0, 0, 0});
  for (const SelectionKind selection : {SelectionKind::all, SelectionKind::hot}) {
    LayerFold one_more;
    one_more.spec = {.selection = selection, .lines = false};
    for (const float bias : ffn.down_bias) one_more.bias.push_back(bias + 1);
    const FoldedLayer layer(ffn, one_more, Activation::gelu_new, WeightFormat::f32);
    for (const int64_t prompt : {1, 3}) {
      Table y(kLength, kWidth);
      FoldedForm form(ctx, {nullptr, &layer}, FfnForm::folded, prompt);
      form.ffn(0, plan, x.view(), y.view());
      for (const float value : y.data) EXPECT_EQ(value, 0) << "a layer that is left as it is";
      form.ffn(1, plan, x.view(), y.view());
      for (int64_t row = 0; row < kLength; ++row) {
        std::vector<double> expected(ffn.down_bias.begin(), ffn.down_bias.end());
        for (int64_t n = 0; n < ffn.neurons(); ++n) {
          double z = ffn.up_bias[size_t(n)];
          for (int64_t i = 0; i < kWidth; ++i) z += double(x[row][i]) * ffn.up[n][i];
          for (int64_t i = 0; i < kWidth; ++i) expected[size_t(i)] += gelu_new(z) * ffn.down[n][i];
        }
        const bool folded = row >= prompt || selection == SelectionKind::hot;  // which kept no others
        for (int64_t i = 0; i < kWidth; ++i)
          EXPECT_NEAR(y[row][i], expected[size_t(i)] + (folded ? 1 : 0), 1e-4)
              << name_of(selection) << ", prompt " << prompt << ", row " << row;
      }
    }
  }
}

TEST(Advice, IsGivenByWhatDiffers) {
  AdviceNumbers numbers{{.25, .25, .25}, .25, .01, {{"int4", .25, .01}}, false};
  const auto last_line = [&] {
    const std::string text = advice(numbers);
    return text.substr(text.rfind(": ") + 2);
  };
  EXPECT_EQ(last_line(), "this model is the same\n");
  numbers.kl = .02;
  EXPECT_EQ(last_line(), "use that instead, it is closer to dense\n");
  numbers.read = {.25, .3, .5};
  EXPECT_EQ(last_line(), "use that instead, it is smaller and closer to dense\n");
  numbers.kl = .01;
  EXPECT_EQ(last_line(), "use that instead, it is smaller\n");
  numbers.read[0] = .2;
  EXPECT_EQ(last_line(), "this model reads less up to batch 1\n");
}

}  // namespace
}  // namespace pleat
