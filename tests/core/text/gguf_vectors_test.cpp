// llama.cpp's tokenizer vectors through the tokenizers inside GGUF files.
#include <gtest/gtest.h>

#include <sstream>

#include "core/text/tokenizer.h"
#include "tests/core/text/gpt2_tokenizer.h"

namespace pleat {
namespace {

class GgufVectors : public testing::TestWithParam<const char*> {};

TEST_P(GgufVectors, AreReproduced) {
  const auto path =
      shared_data() / "tokenizers/llama.cpp-vectors" / (std::string("ggml-vocab-") + GetParam() + ".gguf");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const Tokenizer tokenizer = Tokenizer::open(path);
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string texts = file_text(path.string() + ".inp");
  std::ifstream answers(path.string() + ".out");
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

INSTANTIATE_TEST_SUITE_P(Llamacpp, GgufVectors, testing::Values("gpt-2", "llama-spm"), [](const auto& vocabulary) {
  return std::string(vocabulary.param) == "gpt-2" ? "gpt2" : "llama_spm";
});

}  // namespace
}  // namespace pleat
