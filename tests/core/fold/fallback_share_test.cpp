// The engine computes as many neurons exactly as the fold's report says, on the same text.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/engine/scoring.h"
#include "core/fold/dense_model.h"
#include "core/fold/fold.h"
#include "tests/core/engine/run.h"
#include "tests/core/rewritten_model.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

constexpr const char* kSharedText = PLEAT_SOURCE_DIR "/examples/calibration.txt";
constexpr int64_t kWindow = 64, kTextTokens = 2048;

class FallbackShare : public testing::TestWithParam<SelectionKind> {};

// A tiny Llama whose neurons write outputs of very different sizes.
TEST_P(FallbackShare, OnTheCalibrationTextIsTheReports) {
  const TemporaryFolder folder;
  rewrite_model(fixture("families/llama-3.1"), folder / "model",
                [](const std::string& name, std::vector<float>& values) {
                  for (size_t i = 0; i < values.size() && name.ends_with("down_proj.weight"); ++i)
                    values[i] *= float(1 + i % 130 % 4);  // [72, 130]
                  return name;
                });
  std::filesystem::copy(fixture("families/tokenizer.json"), folder / "model");
  FoldOptions options;
  options.model = folder / "model";
  options.text = kSharedText;
  options.out = folder / "folded";
  options.selection = GetParam();
  options.reduction = 0.3;
  options.max_tokens = kTextTokens;
  options.oversubscribed = true;
  const double reported = fold_model(options).total.fallback;
  EXPECT_GT(reported, 0.1);

  std::vector<int32_t> text;
  for (const Window& window : spread_windows(Tokenizer::open(options.model), kSharedText, kWindow, kTextTokens))
    text.insert(text.end(), window.begin(), window.end());
  ASSERT_EQ(text.size(), size_t(kTextTokens)) << "whole windows";
  ScoringOptions scoring;
  scoring.window = kWindow;
  with_engine(options.out, 1, {}, [&](Engine& engine, Communicator& communicator) {
    score(engine, communicator, text, scoring, [](int64_t, std::span<const float>) {});
    const EngineStatistics& statistics = engine.statistics();
    int64_t exact = 0;
    for (const int64_t count : statistics.fallback) exact += count;
    EXPECT_NEAR(double(exact) / double(statistics.folded_rows * 2 * 130), reported, 0.01);
  });
}

INSTANTIATE_TEST_SUITE_P(Gated, FallbackShare, testing::Values(SelectionKind::gate, SelectionKind::predictor),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace pleat::test
