// `pleat eval` against Hugging Face's numbers for the embedded model.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

using nlohmann::json;

json golden() {
  std::ifstream in(std::string(PLEAT_SOURCE_DIR) + "/tests/fixtures/pleat-gpt2-9m-golden.json");
  return json::parse(in);
}

TEST(Eval, WritesTheLogitsThatHuggingFaceComputes) {
  const Scratch scratch;
  const json expected = golden();
  scratch.write("ids.json", expected["first_ids"].dump());
  const Outcome outcome = pleat("eval --dtype f32 --model " + model() + " --ids " + scratch.path("ids.json") +
                                    " --logits " + scratch.path("logits.npy"),
                                2);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string file = scratch.read("logits.npy");
  const size_t tokens = expected["first_ids"].size(), vocab = 4096;
  ASSERT_EQ(file.substr(0, 6), "\x93NUMPY");
  const size_t data = 10 + static_cast<unsigned char>(file[8]) + 256 * static_cast<unsigned char>(file[9]);
  EXPECT_EQ(data % 64, 0u);
  EXPECT_NE(file.find("'descr': '<f4'"), std::string::npos);
  EXPECT_NE(file.find("'shape': (48, 4096)"), std::string::npos);
  ASSERT_EQ(file.size(), data + tokens * vocab * sizeof(float));
  for (size_t token = 0; token < tokens; ++token)
    for (size_t i = 0; i < expected["logit_columns"].size(); ++i) {
      float logit;
      std::memcpy(&logit, file.data() + data + (token * vocab + expected["logit_columns"][i].get<size_t>()) * 4, 4);
      // The fixture is rounded to 5 decimals.
      ASSERT_NEAR(logit, expected["logits"][token][i].get<float>(), 2e-4) << token << " " << i;
    }
}

TEST(Eval, GivesTheLogitsOfAsManyTokensAsTheContextHolds) {
  const Scratch scratch;
  const int context = 512;
  for (const int tokens : {context, context + 1}) {
    scratch.write("ids.json", json(std::vector<int>(size_t(tokens), 7)).dump());
    const Outcome outcome = pleat("eval --quiet --model " + model() + " --ids " + scratch.path("ids.json") +
                                  " --logits " + scratch.path(std::to_string(tokens)));
    EXPECT_EQ(outcome.code, tokens > context ? 2 : 0) << outcome.err;
  }
  EXPECT_NE(scratch.read(std::to_string(context)).find("'shape': (512, 4096)"), std::string::npos);
}

// Of a text that the model itself wrote, the perplexity rises by the divergence: a tenth of a percent is 0.001 nats.
TEST(Eval, EightBitKeysAndValuesCostLessThanATenthOfAPercent) {
  const std::string flags = "eval --json --max-tokens 1024 --model " + model() + " --against " + model() + " --text " +
                            PLEAT_SOURCE_DIR + "/docs/architecture.md";
  const Outcome one = pleat(flags + " --kv-format int8"), three = pleat(flags + " --kv-format int8", 3);
  ASSERT_EQ(one.code, 0) << one.err;
  const double divergence = json::parse(one.out)["kl"].get<double>();
  EXPECT_GT(divergence, 0);
  EXPECT_LT(divergence, 0.001);
  EXPECT_EQ(json::parse(three.out)["kl"].get<double>(), divergence) << three.err;
  const Outcome cut = pleat(flags + " --kv-format int8 --key-channels 0.6 --exact-prefix 256");
  ASSERT_EQ(cut.code, 0) << cut.err;
  EXPECT_GT(json::parse(cut.out)["kl"].get<double>(), divergence);
}

TEST(Eval, AModelAgreesWithItself) {
  const Scratch scratch;
  scratch.write("text",
                "The shared library is installed in /usr/lib, and the king said unto them: a table is dropped.");
  const std::string flags = " --json --window 16 --model " + model() + " --text " + scratch.path("text");
  const Outcome alone = pleat("eval" + flags);
  const Outcome against = pleat("eval" + flags + " --against " + model(), 2);
  ASSERT_EQ(alone.code, 0) << alone.err;
  ASSERT_EQ(against.code, 0) << against.err;
  const json one = json::parse(alone.out), two = json::parse(against.out);
  EXPECT_EQ(one["perplexity"], two["perplexity"]);
  EXPECT_NEAR(one["perplexity"].get<double>(), std::exp(one["mean_nll"].get<double>()), 1e-9);
  EXPECT_EQ(two["kl"], 0);
  EXPECT_EQ(two["top1_agreement"], 1);
  EXPECT_GT(one["tokens"], 10);
}

// The families' tokens are bytes, and one that begins a text.
TEST(Eval, EveryWindowBeginsAsAPromptDoes) {
  const Scratch scratch;
  const std::filesystem::path families = PLEAT_SOURCE_DIR "/tests/fixtures/families";
  const std::string plain = scratch.path("plain"), with = scratch.path("with");
  for (const std::string& folder : {plain, with}) {
    std::filesystem::create_directory(folder);
    for (const char* file : {"gpt2/config.json", "gpt2/model.safetensors", "tokenizer.json"})
      std::filesystem::copy(families / file, folder);
  }
  scratch.write("with/tokenizer_config.json", R"({"bos_token": "<bos>", "add_bos_token": true})");
  scratch.write("one", "abcdefghijklmno");
  scratch.write("spelt", "<bos>abcdefghijklmno");
  scratch.write("two", "abcdefghijklmnopqrst");
  const auto scored = [&](const std::string& folder, const std::string& text) {
    const Outcome outcome =
        pleat("eval --quiet --json --window 16 --model " + folder + " --text " + scratch.path(text));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return json::parse(outcome.out);
  };
  const json one = scored(with, "one"), spelt = scored(plain, "spelt");
  EXPECT_EQ(one["tokens"], 15);
  EXPECT_EQ(one["mean_nll"], spelt["mean_nll"]);
  EXPECT_EQ(scored(with, "two")["tokens"], 20);
  EXPECT_EQ(scored(plain, "two")["tokens"], 15 + 3);
}

TEST(Eval, PerplexityOfHeldOutTextIsHuggingFaces) {
  const Outcome outcome = pleat("eval --dtype f32 --json --window 512 --max-tokens 8192 --model " + model() +
                                " --text " + PLEAT_SOURCE_DIR + "/examples/heldout.txt");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json result = json::parse(outcome.out);
  EXPECT_EQ(result["tokens"], 16 * 511);
  EXPECT_NEAR(result["perplexity"].get<double>(), golden()["perplexity"].get<double>(), 1e-4);
}

}  // namespace
}  // namespace pleat::test
