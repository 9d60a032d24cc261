// The windows of a text.
#include "core/fold/dense_model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/checkpoint/file.h"

#include "kernels/check.h"
#include "tests/temporary_folder.h"

namespace pleat {
namespace {

constexpr const char* kCalibration = PLEAT_SOURCE_DIR "/examples/calibration.txt";

Tokenizer embedded_tokenizer() { return Tokenizer::open(PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m"); }

TEST(SpreadWindows, BeginAsPromptsDo) {
  const std::string families = PLEAT_SOURCE_DIR "/tests/fixtures/families/";
  const nlohmann::json tokenizer = nlohmann::json::parse(read_whole(families + "tokenizer.json"));
  nlohmann::json config = nlohmann::json::parse(read_whole(families + "tokenizer_config.json"));
  config["add_bos_token"] = true;
  const Tokenizer with = Tokenizer::from_json(tokenizer, config);
  ASSERT_EQ(with.leading_special(), std::vector<int32_t>{0});
  std::vector<int32_t> text;
  for (const Window& window : spread_windows(with, kCalibration, 64, 0)) {
    EXPECT_LE(window.size(), 64u);
    EXPECT_EQ(window[0], 0);
    text.insert(text.end(), window.begin() + 1, window.end());
  }
  EXPECT_EQ(text, with.encode(read_whole(kCalibration)));
  EXPECT_EQ(tokens_of(spread_windows(with, kCalibration, 64, 1024)), 1024);
  EXPECT_THROW(spread_windows(with, kCalibration, 1, 0), Error);
}

TEST(SpreadWindows, FewerThanTheTextHasStandAtEqualDistancesInIt) {
  const Tokenizer tokenizer = embedded_tokenizer();
  const std::vector<int32_t> text = tokenizer.encode(read_whole(kCalibration));
  const std::vector<Window> windows = spread_windows(tokenizer, kCalibration, 64, 512);
  ASSERT_EQ(windows.size(), 8u);
  for (size_t i = 0; i < windows.size(); ++i) {
    const auto place = std::search(text.begin(), text.end(), windows[i].begin(), windows[i].end());
    EXPECT_NEAR(double(place - text.begin()), double(i * text.size()) / 8, 64) << i;
  }
}

TEST(CalibrationWindows, HoldAtLeastTheTokensAskedFor) {
  EXPECT_EQ(tokens_of(calibration_windows(embedded_tokenizer(), kCalibration, 512, 1000)), 1024);
  EXPECT_EQ(tokens_of(calibration_windows(embedded_tokenizer(), kCalibration, 512, 1024)), 1024);
}

TEST(CalibrationWindows, TooFewAreTheFlagsFaultOrTheTexts) {
  const test::TemporaryFolder folder;
  const auto message = [](const std::string& text, int64_t max_tokens) {
    try {
      calibration_windows(embedded_tokenizer(), text, 512, max_tokens);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message(kCalibration, 512).find("--max-tokens takes 512 tokens"), std::string::npos);
  const std::string small = folder.write("small.txt", "A few words.");
  for (const int64_t max_tokens : {0, 512})
    EXPECT_EQ(message(small, max_tokens).find("the text '" + small + "' has "), 0u) << message(small, max_tokens);
}

}  // namespace
}  // namespace pleat
