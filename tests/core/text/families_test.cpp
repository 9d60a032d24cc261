// Every family's kind of tokenizer against Hugging Face's ids and texts (fixtures/make_tokenizers.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/text/tokenizer.h"
#include "kernels/check.h"
#include "tests/core/text/gpt2_tokenizer.h"

namespace pleat {
namespace {

using nlohmann::json;

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixture("tokenizers")))
    names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

class TokenizerOf : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const json content = json::parse(file_text(fixture("tokenizers/" + GetParam() + ".json")));
    tokenizer_json_ = content["tokenizer"];
    cases_ = content["cases"];
  }
  json tokenizer_json_, cases_;
};

TEST_P(TokenizerOf, GivesHuggingFacesIdsAndTexts) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json_, {});
  ASSERT_GT(cases_.size(), 50u);
  for (const json& one : cases_) {
    const std::string text = one[0];
    const auto ids = one[1].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << '"' << text << '"';
    EXPECT_EQ(tokenizer.encode_with_special(text), one[2].get<std::vector<int32_t>>()) << '"' << text << '"';
    // Where bytes do not make text Hugging Face has replacement characters and we the bytes.
    if (one[3].get<std::string>().find("\xef\xbf\xbd") == std::string::npos) {
      EXPECT_EQ(tokenizer.decode(ids), one[3]) << '"' << text << '"';
    }
  }
}

TEST_P(TokenizerOf, StreamsTheTextItDecodes) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json_, {});
  for (const json& one : cases_) {
    const auto ids = one[1].get<std::vector<int32_t>>();
    StreamingDecoder decoder(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) streamed += decoder.push(id);
    streamed += decoder.flush();
    const std::string whole = tokenizer.continuation(ids);
    if (valid_utf8_prefix(whole) == whole.size()) {
      EXPECT_EQ(streamed, whole);
    }
    EXPECT_EQ(valid_utf8_prefix(streamed), streamed.size());
  }
}

TEST_P(TokenizerOf, TakesAnyBytes) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json_, {});
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 300; ++trial) {
    std::string text(random() % 50, '\0');
    for (char& byte : text) byte = trial % 2 ? char(random()) : " \t\n<s>aA1\xc3\xa9\xe2\x96\x81"[random() % 14];
    for (const int32_t id : tokenizer.encode(text)) ASSERT_LT(id, tokenizer.vocab_size());
  }
}

TEST_P(TokenizerOf, RefusesDamagedFilesWithoutHarm) {
  const std::string good = tokenizer_json_.dump();
  std::mt19937_64 random(4);
  for (int trial = 0; trial < 60; ++trial) {
    std::string bad = good;
    // Mostly in the parts before the vocabulary.
    for (int changes = 0; changes < 3; ++changes)
      bad[random() % std::min<size_t>(bad.size(), 6000)] = char(32 + random() % 95);
    const json parsed = json::parse(bad, nullptr, false);
    if (parsed.is_discarded()) continue;
    try {
      Tokenizer::from_json(parsed, {}).encode("some text <s> 12");
    } catch (const Error& error) {
      EXPECT_NE(error.kind(), ErrorKind::failed) << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerOf, testing::ValuesIn(names()), [](const auto& family) {
  std::string name = family.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(uint8_t(c)); }, '_');
  return name;
});

}  // namespace
}  // namespace pleat
