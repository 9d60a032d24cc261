// Models and files with which a job cannot go on: one sentence, on any number of ranks.
#include <gtest/gtest.h>

#include <csignal>
#include <limits>

#include "tests/core/rewritten_model.h"
#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

class RefusedJob : public testing::Test {
 protected:
  void SetUp() override {
    text_ = scratch_.write("text", [] {
      std::string text;
      for (int line = 0; line < 60; ++line) text += "line " + std::to_string(line * line) + ": all ranks add.\n";
      return text;
    }());
  }

  static std::string family(const std::string& name) {
    return std::string(PLEAT_SOURCE_DIR) + "/tests/fixtures/families/" + name;
  }
  // With the tokenizer that the families share.
  std::string with_tokenizer(const std::string& folder) const {
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
      std::filesystem::create_symlink(family(file), folder + "/" + file);
    return folder;
  }

  // One sentence with all of `words`, from one rank and from two.
  void expect_refused(const std::string& arguments, int code, const std::vector<std::string>& words) const {
    for (const int ranks : {0, 2}) {
      const Outcome outcome = pleat(arguments, ranks);
      EXPECT_EQ(outcome.code, code) << outcome.err;
      const std::vector<std::string> errors = own_errors(outcome);
      ASSERT_EQ(errors.size(), 1u) << outcome.err;
      for (const std::string& word : words) EXPECT_NE(errors[0].find(word), std::string::npos) << errors[0];
    }
  }

  const Scratch scratch_;
  std::string text_;
};

TEST_F(RefusedJob, LogitsThatAreNoNumbersWriteNoText) {
  const std::string model = scratch_.path("broken");
  rewrite_model(family("gpt2"), model, [](const std::string& name, std::vector<float>& values) {
    if (name.ends_with("ln_f.weight") && !values.empty()) values[3] = std::numeric_limits<float>::quiet_NaN();
    return name;
  });
  const std::string sentence = "the model's logits are not finite numbers";
  const std::string generate = "generate --quiet --temperature 0 --model " + with_tokenizer(model);
  expect_refused(generate + " --prompt x", 1, {sentence});
  scratch_.write("in.jsonl", R"({"custom_id": "a", "prompt": "x"})");
  const Outcome batch = pleat(generate + " --input " + scratch_.path("in.jsonl") + " --output " + scratch_.path("out"));
  EXPECT_EQ(batch.code, 0) << batch.err;
  EXPECT_EQ(scratch_.records("out").at(0)["error"]["message"], sentence);
}

TEST_F(RefusedJob, PromptsThatChooseTheNeuronsAreNotFoldedToo) {
  const std::string model = scratch_.path("dense"), folded = scratch_.path("folded");
  rewrite_model(family("gpt2"), model, [](const std::string& name, std::vector<float>&) { return name; });
  const Outcome folding = pleat("fold --quiet --select prompt --reduction 0.25 --max-tokens 2048 --model " +
                                with_tokenizer(model) + " --text " + text_ + " --out " + folded);
  ASSERT_EQ(folding.code, 0) << folding.err;
  EXPECT_EQ(pleat("generate --quiet --prompt x --model " + folded).code, 0);
  expect_refused("generate --quiet --fold-prompt --prompt x --model " + folded, 2, {"selection prompt or core"});
}

TEST_F(RefusedJob, TokenIdsAreTakenAsTheyAre) {
  for (const char* const ids : {"[1, 4294967297]", "{}"}) {
    scratch_.write("ids.json", ids);
    expect_refused("eval --quiet --model " + model() + " --ids " + scratch_.path("ids.json") + " --logits " +
                       scratch_.path("logits.npy"),
                   2, {"ids.json' is not a JSON array of token ids"});
  }
  scratch_.write("ids.json", "[1, 4096]");
  expect_refused("eval --quiet --model " + model() + " --ids " + scratch_.path("ids.json") + " --logits " +
                     scratch_.path("logits.npy"),
                 2, {"4096"});
}

TEST_F(RefusedJob, AWindowFitsBothModelsOfAComparison) {
  const std::string small = scratch_.path("small");
  rewrite_model(family("gpt2"), small, [](const std::string& name, std::vector<float>&) { return name; });
  const std::string flags = " --quiet --text " + text_ + " --model " + with_tokenizer(small);
  expect_refused("eval --window 4096" + flags, 2, {"4096", small});
  // The same weights under a shorter context.
  const std::string shorter = scratch_.path("shorter");
  rewrite_model(family("smollm2"), shorter, [](const std::string& name, std::vector<float>&) { return name; });
  const std::string same = scratch_.path("same");
  rewrite_model(family("smollm2"), same, [](const std::string& name, std::vector<float>&) { return name; });
  nlohmann::json config = nlohmann::json::parse(scratch_.read("shorter/config.json"));
  config["max_position_embeddings"] = 16;
  scratch_.write("shorter/config.json", config.dump());
  expect_refused("eval --quiet --window 32 --text " + text_ + " --model " + with_tokenizer(same) + " --against " +
                     with_tokenizer(shorter),
                 2, {"32", shorter});
}

TEST_F(RefusedJob, AnInterruptedFoldLeavesNothingBehind) {
  const std::string out = scratch_.path("folds");
  std::filesystem::create_directory(out);
  const Outcome outcome = shell("timeout --preserve-status -s TERM 4 " +
                                pleat_command("fold --model " + model() + " --text " + PLEAT_SOURCE_DIR +
                                              "/examples/calibration.txt --out " + out + "/new/one/folded"));
  EXPECT_EQ(outcome.code, 128 + SIGTERM) << outcome.err;
  EXPECT_TRUE(std::filesystem::is_empty(out));
}

TEST_F(RefusedJob, AFolderIsNoText) {
  expect_refused("eval --quiet --model " + model() + " --text " + scratch_.path(""), 2, {"it is a folder"});
}

}  // namespace
}  // namespace pleat::test
