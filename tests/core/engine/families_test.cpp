// Every family against Hugging Face's float32 logits (fixtures/make_families.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <fstream>

#include "core/checkpoint/checkpoint.h"
#include "tests/core/engine/run.h"
#include "tests/core/rewritten_model.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixture("families")))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class Family : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const Checkpoint checkpoint = Checkpoint::open(folder());
    const std::vector<float> tokens = checkpoint.read_f32("golden.tokens");
    tokens_.assign(tokens.begin(), tokens.end());
    expected_ = checkpoint.read_f32("golden.logits");
  }

  static std::string folder() { return fixture("families/" + GetParam()); }

  std::vector<float> run(int ranks, int chunk, Reduction reduction) const {
    LoadOptions options;
    options.dtype = WeightFormat::f32;
    options.reduction = reduction;
    std::vector<float> logits;
    with_engine(folder(), ranks, options,
                [&](Engine& engine, Communicator& c) { logits = run_tokens(engine, c, tokens_, chunk, false); });
    return logits;
  }

  double worst(const std::vector<float>& logits) const {
    EXPECT_EQ(logits.size(), expected_.size());
    double worst = 0;
    for (size_t i = 0; i < logits.size(); ++i)
      worst = std::max(worst, std::isfinite(logits[i]) ? double(std::fabs(logits[i] - expected_[i])) : 1e30);
    return worst;
  }

  std::vector<int32_t> tokens_;
  std::vector<float> expected_;
};

TEST_P(Family, LogitsInF32AreHuggingFacesAndTheSameBitsOnAnyNumberOfRanks) {
  const std::vector<float> alone = run(1, 64, Reduction::invariant);
  EXPECT_LE(worst(alone), 2e-4);
  for (int ranks : {2, 3, 4}) EXPECT_EQ(run(ranks, 64, Reduction::invariant), alone) << ranks << " ranks";
}

TEST_P(Family, TokensOneByOneFromTheCacheGiveTheSameBitsAsAllAtOnce) {
  EXPECT_EQ(run(2, 1, Reduction::invariant), run(1, 64, Reduction::invariant));
}

TEST_P(Family, OneSumARankGivesHuggingFacesLogitsToo) { EXPECT_LE(worst(run(3, 20, Reduction::fast)), 2e-4); }

// Models that also see keep the language model inside; transformers 4 and 5 name it in different ways.
TEST(Families, ALanguageModelInsideAnotherIsFound) {
  const std::string alone = fixture("families/gemma3");
  const TemporaryFolder scratch;
  const std::vector<int32_t> tokens = {1, 5, 9, 2, 30};
  const auto logits_of = [&](const std::string& model) {
    std::vector<float> logits;
    LoadOptions options;
    options.dtype = WeightFormat::f32;
    with_engine(model, 1, options,
                [&](Engine& engine, Communicator& c) { logits = run_tokens(engine, c, tokens, 5, false); });
    return logits;
  };
  const std::vector<float> expected = logits_of(alone);
  for (const std::string prefix : {"language_model.model.", "model.language_model."}) {
    const std::filesystem::path folder = scratch / prefix;
    rewrite_model(alone, folder, [&](const std::string& name, std::vector<float>&) {
      return name.starts_with("model.") ? prefix + name.substr(6) : name;
    });
    nlohmann::json config = {{"model_type", "gemma3"}, {"architectures", {"Gemma3ForConditionalGeneration"}}};
    config["text_config"] = nlohmann::json::parse(std::ifstream(alone + "/config.json"));
    std::ofstream(folder / "config.json") << config;
    EXPECT_EQ(logits_of(folder), expected) << prefix;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Family, testing::ValuesIn(families()), [](const auto& family) {
  std::string name = family.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(uint8_t(c)); }, '_');
  return name;
});

}  // namespace
}  // namespace pleat::test
