#include "core/text/tokenizer.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "core/text/bpe.h"
#include "kernels/check.h"
#include "tests/core/text/gpt2_tokenizer.h"

namespace pleat {
namespace {

using nlohmann::json;

std::string random_bytes(std::mt19937_64& random, size_t length) {
  std::string text(length, '\0');
  for (char& byte : text) byte = char(random());
  return text;
}

std::string random_utf8(std::mt19937_64& random, size_t length) {
  static constexpr char32_t kEnds[] = {0x80, 0x800, 0x10000, 0x110000};
  std::string text;
  while (text.size() < length) {
    const char32_t codepoint = char32_t(random() % kEnds[random() % 4]);
    if (codepoint < 0xd800 || codepoint > 0xdfff) append_utf8(codepoint, text);
  }
  return text;
}

std::string refusal(const json& tokenizer, const json& config, ErrorKind kind = ErrorKind::invalid) {
  try {
    Tokenizer::from_json(tokenizer, config);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

TEST(Tokenizer, ReproducesTheGoldenPromptsOfTheEmbeddedModel) {
  const json golden = json::parse(file_text(fixture("pleat-gpt2-9m-golden.json")));
  for (const auto& item : golden["greedy"]) {
    const auto prompt_ids = item["prompt_ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(embedded().encode(item["prompt"].get<std::string>()), prompt_ids);
    EXPECT_EQ(embedded().decode(prompt_ids), item["prompt"]);
    EXPECT_EQ(embedded().decode(item["ids"].get<std::vector<int32_t>>(), false), item["text"]);
  }
}

TEST(Tokenizer, GivesTheGoldenIdsOfTheHeldOutText) {
  const std::string path = PLEAT_SOURCE_DIR "/examples/heldout.txt";
  const auto expected =
      json::parse(file_text(fixture("pleat-gpt2-9m-golden.json")))["first_ids"].get<std::vector<int32_t>>();
  const std::string text = file_text(path);
  std::vector<int32_t> ids = embedded().encode(text);
  ASSERT_GE(ids.size(), expected.size());
  EXPECT_EQ(embedded().decode(ids, false), text);
  ids.resize(expected.size());
  EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, KnowsTheSpecialTokensOfTheEmbeddedModel) {
  EXPECT_EQ(embedded().vocab_size(), 4096);
  EXPECT_EQ(embedded().eos(), 0);
  EXPECT_EQ(embedded().bos(), 0);
  EXPECT_TRUE(embedded().is_special(0));
  EXPECT_FALSE(embedded().is_special(1));
  EXPECT_FALSE(embedded().is_special(-1));
  EXPECT_FALSE(embedded().is_special(1 << 30));
  EXPECT_EQ(embedded().piece(0), "<|endoftext|>");
  EXPECT_EQ(embedded().piece(4096), "");
  const std::vector<int32_t> ids = embedded().encode("one<|endoftext|>two");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 1);
  EXPECT_EQ(embedded().decode(ids), "onetwo");
  EXPECT_EQ(embedded().decode(ids, false), "one<|endoftext|>two");
}

TEST(Tokenizer, DecodesIdsWithoutATokenAsNothing) {
  EXPECT_EQ(embedded().decode(std::vector<int32_t>{-5, 4096, 1 << 30}), "");
}

TEST(Tokenizer, RoundTripsEveryByteString) {
  std::mt19937_64 random(1);
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, char(byte));
    EXPECT_EQ(embedded().decode(embedded().encode(text)), text);
  }
  for (int trial = 0; trial < 3000; ++trial) {
    const std::string text = random_bytes(random, random() % 40);
    EXPECT_EQ(embedded().decode(embedded().encode(text), false), text);
  }
}

TEST(Tokenizer, RoundTripsEveryUtf8String) {
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 3000; ++trial) {
    const std::string text = random_utf8(random, random() % 60);
    EXPECT_EQ(embedded().decode(embedded().encode(text), false), text);
  }
}

TEST(Tokenizer, MergesAsTheDefinitionOfBytePairEncodingSays) {
  const json model = json::parse(file_text(PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m/tokenizer.json"))["model"];
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (const auto& merge : model["merges"]) ranks.emplace(std::pair(merge[0], merge[1]), ranks.size());
  const Bpe bpe(model);
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 1500; ++trial) {
    std::string word;
    for (size_t i = 0, n = random() % 30; i < n; ++i) word += "aeeinorsttth"[random() % 12];
    std::vector<std::string> parts;
    for (const char c : word) parts.emplace_back(1, c);
    while (true) {
      size_t best = SIZE_MAX, place = 0;
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks.find({parts[i], parts[i + 1]});
        if (found != ranks.end() && found->second < best) best = found->second, place = i;
      }
      if (best == SIZE_MAX) break;
      parts[place] += parts[place + 1];
      parts.erase(parts.begin() + std::ptrdiff_t(place) + 1);
    }
    std::vector<int32_t> expected, ids;
    for (const std::string& token : parts) expected.push_back(model["vocab"][token]);
    Bpe::Scratch scratch;
    bpe.encode(word, scratch, ids);
    EXPECT_EQ(ids, expected) << word;
  }
}

TEST(Tokenizer, TakesAMegabyteWithoutASpaceInItsStride) {
  std::mt19937_64 random(4);
  for (const std::string letters : {"aeiouthsrn", " ", "\xff", "<"}) {
    std::string text(1 << 20, 'x');
    for (char& c : text) c = letters[random() % letters.size()];
    EXPECT_EQ(embedded().decode(embedded().encode(text)), text);
  }
}

TEST(Tokenizer, TakesMergesAsPairsAndAsText) {
  json model = gpt2_model(20);
  const Tokenizer as_text = Tokenizer::from_json(tokenizer_json(model), {});
  for (auto& merge : model["merges"]) {
    const std::string text = merge;
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  const Tokenizer as_pairs = Tokenizer::from_json(tokenizer_json(model), {});
  const std::string text = "the other tin in the hen";
  EXPECT_EQ(as_text.encode(text), as_pairs.encode(text));
  EXPECT_LT(as_text.encode(text).size(), text.size());
}

TEST(Tokenizer, ReadsTheNamesOfTheBeginAndEndTokens) {
  json tokenizer = tokenizer_json(gpt2_model(20));
  tokenizer["added_tokens"] = {{{"id", 300}, {"content", "<s>"}, {"special", true}}};
  const Tokenizer both =
      Tokenizer::from_json(tokenizer, {{"bos_token", {{"content", "<s>"}}}, {"eos_token", "<|endoftext|>"}});
  EXPECT_EQ(both.bos(), 300);
  EXPECT_EQ(both.eos(), 276);
  EXPECT_EQ(both.vocab_size(), 301);
  const Tokenizer none = Tokenizer::from_json(tokenizer, {{"bos_token", nullptr}});
  EXPECT_EQ(none.bos(), std::nullopt);
  EXPECT_EQ(none.eos(), std::nullopt);
  EXPECT_NE(refusal(tokenizer, {{"eos_token", "</s>"}}).find("</s>"), std::string::npos);
}

TEST(Tokenizer, DecodesAnAddedTokenAsItsOwnText) {
  json tokenizer = tokenizer_json(gpt2_model(20));
  tokenizer["added_tokens"] = {{{"id", 300}, {"content", "é\n"}}};
  const Tokenizer known = Tokenizer::from_json(tokenizer, {});
  const std::vector<int32_t> ids = known.encode("é\n");
  EXPECT_EQ(ids, std::vector<int32_t>{300});
  EXPECT_EQ(known.decode(ids), "é\n");
}

// As Hugging Face does; Gemma has its runs of spaces as added tokens.
TEST(Tokenizer, DecodesAnAddedTokenOfVisibleSpacesAsSpaces) {
  json tokenizer = json::parse(file_text(fixture("tokenizers/gemma.json")))["tokenizer"];
  tokenizer["added_tokens"].push_back(
      {{"id", 5000}, {"content", "\u2581\u2581\u2581\u2581\u2581\u2581\u2581\u2581\u2581"}, {"special", false}});
  EXPECT_EQ(Tokenizer::from_json(tokenizer, {}).decode(std::vector<int32_t>{5000}), std::string(9, ' '));
}

TEST(Tokenizer, BeginTokensFollowTheConfigurationsFlag) {
  const json tokenizer = json::parse(file_text(fixture("tokenizers/llama-2.json")))["tokenizer"];
  const auto first = [&](const json& config) {
    return Tokenizer::from_json(tokenizer, config).encode_with_special("a")[0];
  };
  const json named = {{"bos_token", "<s>"}};
  json without = named, with = named;
  without["add_bos_token"] = false;
  with["add_bos_token"] = true;
  EXPECT_EQ(first(named), 1);
  EXPECT_EQ(first(with), 1);
  EXPECT_NE(first(without), 1);
}

TEST(Tokenizer, RefusesWhatItDoesNotKnowByName) {
  const json good = tokenizer_json(gpt2_model(20));
  const auto changed = [&](const char* pointer, json value) {
    json copy = good;
    copy[json::json_pointer(pointer)] = std::move(value);
    return copy;
  };
  const auto expect = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  const ErrorKind unknown = ErrorKind::unimplemented;
  expect(refusal(changed("/normalizer", {{"type", "Precompiled"}}), {}, unknown), "normalizer \"Precompiled\"");
  expect(refusal(changed("/normalizer", {{"type", "Prepend"}}), {}), "'prepend'");
  expect(refusal(changed("/pre_tokenizer", {{"type", "UnicodeScripts"}}), {}, unknown), "\"UnicodeScripts\"");
  expect(refusal(changed("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}}), {}), "(a");
  expect(refusal(changed("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "[a&&b]"}}}}), {}), "&&");
  expect(refusal(changed("/post_processor", {{"type", "Other"}}), {}, unknown), "post_processor \"Other\"");
  expect(refusal(changed("/decoder", {{"type", "WordPiece"}}), {}, unknown), "decoder \"WordPiece\"");
  expect(refusal(changed("/model/type", "WordPiece"), {}, unknown), "model \"WordPiece\"");
  expect(refusal(changed("/model/type", "Unigram"), {}), "Unigram model has no vocab");
  expect(refusal(changed("/pre_tokenizer/use_regex", 1), {}), "use_regex");
  expect(refusal(changed("/model/dropout", 0.1), {}), "dropout");
  expect(refusal(changed("/model/end_of_word_suffix", "</w>"), {}), "end_of_word_suffix");
  expect(refusal(changed("/model/vocab", json::array()), {}), "no vocab");
  expect(refusal(changed("/model/vocab/!", -1), {}), "'!' has no valid id");
  expect(refusal(changed("/model/vocab/!", 1), {}), "another token");
  expect(refusal(changed("/model/vocab/!", uint64_t(1) << 40), {}), "'!' has no valid id");
  expect(refusal(changed("/model/merges/0", "a b c"), {}), "merge 0");
  expect(refusal(changed("/model/merges/0", "zzzz q"), {}), "'zzzz'");
  expect(refusal(changed("/model/merges/0", 7), {}), "merge 0");
  expect(refusal(changed("/added_tokens", {{{"id", 3}, {"content", "<x>"}}}), {}), "another token");
  expect(refusal(changed("/added_tokens", {{{"id", 3}, {"content", "!"}}}), {}), "the vocabulary gives it 0");
  expect(refusal(changed("/added_tokens", {{{"content", "<x>"}}}), {}), "added token 0");
  expect(refusal(json::array(), {}), "no JSON object");
}

TEST(Tokenizer, DropsBytesTheVocabularyLacks) {
  const Tokenizer two = Tokenizer::from_json(
      tokenizer_json({{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", {"a b"}}}), {});
  EXPECT_EQ(two.encode("abb"), (std::vector<int32_t>{2, 1}));
  EXPECT_EQ(two.encode("acbc"), std::vector<int32_t>{2});
  EXPECT_TRUE(two.encode("c").empty());
}

}  // namespace
}  // namespace pleat
