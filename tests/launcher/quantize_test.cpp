// A quantised model through the program: what it loses, and the same texts on any number of ranks.
#include <gtest/gtest.h>

#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

using nlohmann::json;

class Quantize : public testing::Test {
 protected:
  static std::string source(const char* path) { return std::string(PLEAT_SOURCE_DIR) + "/" + path; }
  std::string quantized(const std::string& name, const std::string& flags) {
    const std::string out = scratch_.path(name);
    const Outcome outcome =
        pleat("quantize --quiet --model " + source("models/pleat-gpt2-9m") + " --out " + out + " " + flags);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return out;
  }
  double perplexity(const std::string& model, int ranks = 1) {
    const Outcome outcome = pleat(
        "eval --quiet --json --max-tokens 2048 --model " + model + " --text " + source("examples/heldout.txt"), ranks);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.code == 0 ? json::parse(outcome.out)["perplexity"].get<double>() : 0;
  }

  Scratch scratch_;
};

TEST_F(Quantize, GptqLosesLessThanRoundingAndEightBitsNearlyNothing) {
  const std::string text = "--max-tokens 4096 --text " + source("examples/calibration.txt");
  const double dense = perplexity(source("models/pleat-gpt2-9m"));
  EXPECT_NEAR(perplexity(quantized("int8", "--format int8")), dense, 0.002 * dense);
  const double rounded = perplexity(quantized("rtn", "--format int3"));
  const double gptq = perplexity(quantized("gptq", "--format int3 " + text));
  EXPECT_GT(rounded, 1.01 * dense);
  EXPECT_LT(gptq - dense, 0.5 * (rounded - dense));
}

TEST_F(Quantize, TheSameNumbersAndTextsOnAnyNumberOfRanks) {
  const std::string model = quantized("int4", "--head int6");
  const Outcome inspected = pleat("inspect --json --ranks 2 --model " + model);
  ASSERT_EQ(inspected.code, 0) << inspected.err;
  EXPECT_EQ(json::parse(inspected.out)["blueprint"]["quantised"], json({{"int4", 24}, {"int6", 1}}));

  const double alone = perplexity(model);
  const std::string prompt = "generate --quiet --max-tokens 20 --prompt 'The house' --model " + model;
  const Outcome text = pleat(prompt);
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_GT(text.out.size(), 20u);
  for (int ranks : {2, 3, 7}) {
    EXPECT_EQ(perplexity(model, ranks), alone) << ranks << " ranks";
    EXPECT_EQ(pleat(prompt, ranks).out, text.out) << ranks << " ranks";
  }
}

}  // namespace
}  // namespace pleat::test
