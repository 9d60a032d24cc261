#include <gtest/gtest.h>

#include <sstream>

#include "core/text/tokenizer.h"
#include "tests/core/text/gpt2_tokenizer.h"

namespace pleat {
namespace {

using nlohmann::json;

TEST(Gpt2Tokenizer, GivesTheIdsOfLlamaCppsVectors) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json(gpt2_model()), {});
  EXPECT_EQ(tokenizer.vocab_size(), 50257);
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string texts = file_text(fixture("gpt2-tokenizer/vectors.inp"));
  std::ifstream answers(fixture("gpt2-tokenizer/vectors.out"));
  int count = 0;
  for (std::string line; std::getline(answers, line); ++count) {
    const size_t end = texts.find(separator);
    const std::string text = texts.substr(0, end);
    texts.erase(0, end == std::string::npos ? end : end + separator.size());
    std::istringstream numbers(line);
    const std::vector<int32_t> ids(std::istream_iterator<int32_t>(numbers), {});
    EXPECT_EQ(tokenizer.encode(text), ids) << "text: " << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
  EXPECT_GE(count, 40);
}

TEST(Gpt2Tokenizer, GivesTheIdsOfHuggingFaceTokenizersForHardTexts) {
  const json model = gpt2_model();
  const json file = json::parse(file_text(fixture("gpt2-tokenizer/cases.json")));
  for (const auto& [name, option] : file.items()) {
    json description = tokenizer_json(model);
    description["added_tokens"] = option["added"];
    description["pre_tokenizer"]["add_prefix_space"] = option.value("add_prefix_space", false);
    description["pre_tokenizer"]["use_regex"] = option.value("use_regex", true);
    description["model"]["ignore_merges"] = option.value("ignore_merges", false);
    const Tokenizer tokenizer = Tokenizer::from_json(description, {});
    for (const auto& item : option["cases"]) {
      EXPECT_EQ(tokenizer.encode(item[0].get<std::string>()), item[1].get<std::vector<int32_t>>())
          << name << " " << item[0];
    }
  }
}

TEST(Gpt2Tokenizer, VocabularyRebuiltFromTheMergesIsThePublishedOne) {
  const auto path = shared_data() / "tokenizers/gpt2-tokenizer/gpt2_vocab.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  EXPECT_EQ(gpt2_model()["vocab"], json::parse(file_text(path)));
}

}  // namespace
}  // namespace pleat
