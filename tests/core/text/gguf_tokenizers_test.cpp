// The families' tokenizers out of GGUF files: Hugging Face's ids (fixtures/make_tokenizers.py).
#include <gtest/gtest.h>

#include <algorithm>

#include "core/text/tokenizer.h"
#include "kernels/check.h"
#include "tests/core/checkpoint/gguf_writer.h"
#include "tests/core/text/gpt2_tokenizer.h"
#include "tests/temporary_folder.h"

namespace pleat {
namespace {

// What the file of a byte-level tokenizer says.
nlohmann::json gguf_metadata_of(const nlohmann::json& tokenizer, const std::string& pre) {
  const nlohmann::json& vocab = tokenizer["model"]["vocab"];
  const nlohmann::json& added = tokenizer["added_tokens"];
  std::vector<std::string> tokens(vocab.size() + added.size());
  std::vector<int> types(tokens.size(), 1);
  size_t count = 0;
  const auto add = [&](const std::string& text, size_t id, int type) {
    tokens.at(id) = text;
    types.at(id) = type;
    count = std::max(count, id + 1);
  };
  for (const auto& [text, id] : vocab.items()) add(text, id, 1);
  for (const nlohmann::json& token : added) add(token["content"], token["id"], token["special"].get<bool>() ? 3 : 4);
  tokens.resize(count);
  types.resize(count);
  nlohmann::json merges = nlohmann::json::array();
  for (const nlohmann::json& pair : tokenizer["model"]["merges"])
    merges.push_back(pair[0].get<std::string>() + " " + pair[1].get<std::string>());
  return {{"tokenizer.ggml.model", "gpt2"},
          {"tokenizer.ggml.pre", pre},
          {"tokenizer.ggml.tokens", tokens},
          {"tokenizer.ggml.token_type", types},
          {"tokenizer.ggml.merges", merges}};
}

TEST(GgufTokenizers, GiveTheIdsOfTheFamiliesFolders) {
  for (const auto& [name, pre] :
       {std::pair{"gpt2", "gpt-2"}, std::pair{"falcon", "falcon"}, std::pair{"starcoder2-smollm2", "smollm"},
        std::pair{"llama-3", "llama-bpe"}, std::pair{"qwen2", "qwen2"}}) {
    const nlohmann::json content = nlohmann::json::parse(file_text(fixture(concat("tokenizers/", name, ".json"))));
    const test::TemporaryFolder folder;
    const Tokenizer tokenizer =
        Tokenizer::open(folder.write("m.gguf", test::GgufBytes::file(gguf_metadata_of(content["tokenizer"], pre), {})));
    int count = 0;
    for (const nlohmann::json& one : content["cases"]) {
      const std::string text = one[0];
      if (text.find("<extra>") != std::string::npos) continue;  // a file cannot say that it takes the space before it
      EXPECT_EQ(tokenizer.encode(text), one[1].get<std::vector<int32_t>>()) << name << " \"" << text << '"';
      ++count;
    }
    EXPECT_GT(count, 50) << name;
  }
}

}  // namespace
}  // namespace pleat
