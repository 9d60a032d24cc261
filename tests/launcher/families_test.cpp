// Every model-facing command on every family (fixtures/make_families.py), dense and folded, on 1 to 3 ranks.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

using nlohmann::json;

std::string fixtures() { return std::string(PLEAT_SOURCE_DIR) + "/tests/fixtures/families"; }

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixtures()))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class EveryCommand : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(dense());
    for (const char* file : {"config.json", "model.safetensors"})
      std::filesystem::create_symlink(fixtures() + "/" + GetParam() + "/" + file, dense() + "/" + file);
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
      std::filesystem::create_symlink(fixtures() + "/" + file, dense() + "/" + file);
    std::string text;
    for (int line = 0; line < 60; ++line)
      text += "line " + std::to_string(line * line) + ": every rank adds its part, and the sum is the same.\n";
    scratch_.write("text", text);
    scratch_.write("in.jsonl",
                   R"({"custom_id": "a", "prompt": "the first", "max_tokens": 9, "temperature": 0})"
                   "\n"
                   R"({"custom_id": "b", "prompt": "and another one", "max_tokens": 7, "temperature": 0.8, "seed": 5})"
                   "\n");
  }

  std::string dense() const { return scratch_.path("dense"); }
  std::string folded() const { return scratch_.path("folded"); }
  std::string text() const { return scratch_.path("text"); }

  std::multiset<std::string> generate(const std::string& model, int ranks) {
    const std::string name = "out" + std::to_string(++jobs_) + ".jsonl";
    const Outcome outcome = pleat("generate --quiet --ignore-eos --model " + model + " --input " +
                                      scratch_.path("in.jsonl") + " --output " + scratch_.path(name),
                                  ranks);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::multiset<std::string> texts;
    for (const json& record : scratch_.records(name)) {
      EXPECT_TRUE(record["error"].is_null()) << record;
      texts.insert(record["custom_id"].get<std::string>() + record["response"]["body"]["choices"].dump());
    }
    EXPECT_EQ(texts.size(), 2u);
    return texts;
  }

  json evaluate(const std::string& flags, int ranks) {
    const Outcome outcome = pleat("eval --json --quiet --window 32 --max-tokens 96 --text " + text() + flags, ranks);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.code == 0 ? json::parse(outcome.out) : json();
  }

  Scratch scratch_;
  int jobs_ = 0;
};

TEST_P(EveryCommand, WorksDenseAndFoldedAndGivesTheSameOnOneToThreeRanks) {
  const Outcome inspected = pleat("inspect --json --ranks 3 --model " + dense());
  ASSERT_EQ(inspected.code, 0) << inspected.err;
  EXPECT_EQ(json::parse(inspected.out)["ranks"].size(), 3u);

  const Outcome folding = pleat("fold --quiet --reduction 0.25 --model " + dense() + " --text " + text() +
                                " --max-tokens 2048 --out " + folded());
  ASSERT_EQ(folding.code, 0) << folding.err;
  const Outcome inspected_fold = pleat("inspect --json --model " + folded());
  ASSERT_EQ(inspected_fold.code, 0) << inspected_fold.err;
  EXPECT_EQ(json::parse(inspected_fold.out)["blueprint"]["folded"], true);

  const auto dense_texts = generate(dense(), 1), folded_texts = generate(folded(), 1);
  const json alone = evaluate(" --model " + folded() + " --against " + dense(), 1);
  EXPECT_GT(alone["kl"], 0);  // it did run folded
  EXPECT_LT(alone["kl"], 0.5);
  for (int ranks : {2, 3}) {
    EXPECT_EQ(generate(dense(), ranks), dense_texts) << ranks << " ranks";
    EXPECT_EQ(generate(folded(), ranks), folded_texts) << ranks << " ranks";
  }
  const json together = evaluate(" --model " + folded() + " --against " + dense(), 3);
  for (const char* key : {"perplexity", "kl", "top1_agreement"}) EXPECT_EQ(together[key], alone[key]) << key;
}

INSTANTIATE_TEST_SUITE_P(Families, EveryCommand, testing::ValuesIn(families()), [](const auto& family) {
  std::string name = family.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(uint8_t(c)); }, '_');
  return name;
});

}  // namespace
}  // namespace pleat::test
