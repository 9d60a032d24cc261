// What the program answers to wrong usage and wrong input: one sentence, and the exit code scripts depend on.
#include <gtest/gtest.h>

#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

void expect_refusal(const Outcome& outcome, const std::string& what) {
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
  EXPECT_NE(outcome.err.find(what), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.out, "");
}

TEST(CommandLine, AloneAndWithHelpItTeaches) {
  const Outcome alone = pleat("");
  EXPECT_EQ(alone.code, 0);
  for (const char* name : {"generate", "eval", "fold", "inspect", "check"}) {
    EXPECT_NE(alone.out.find(name), std::string::npos);
    const Outcome help = pleat(std::string(name) + " --help");
    EXPECT_EQ(help.code, 0);
    EXPECT_NE(help.out.find(std::string("pleat ") + name), std::string::npos) << help.out;
  }
}

TEST(CommandLine, RefusesWhatItDoesNotKnow) {
  expect_refusal(pleat("generate --model " + model() + " --prompt x --colour red"), "--colour");
  expect_refusal(pleat("compose"), "compose");
  expect_refusal(pleat("generate --prompt x"), "--model");
  expect_refusal(pleat("generate --model " + model()), "--prompt or --input");
  expect_refusal(pleat("generate --model " + model() + " --input x.jsonl"), "--output");
  expect_refusal(pleat("eval --model " + model() + " --text x --window one"), "--window");
  expect_refusal(pleat("generate --model " + model() + " --prompt x --kv-format int4"), "--kv-format");
  for (const char* share : {"0", "1.5", "-1", "much"})
    expect_refusal(pleat("eval --model " + model() + " --text x --key-channels " + share), "--key-channels");
}

TEST(CommandLine, AResultThatCannotBeWrittenIsAFailure) {
  for (const std::string command : {"generate --max-tokens 2 --prompt x --model ", "inspect --model "}) {
    const Outcome outcome = shell(pleat_command(command + model(), 0) + " >/dev/full");
    EXPECT_EQ(outcome.code, 1) << command << outcome.err;
    EXPECT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
  }
}

TEST(CommandLine, SaysWhyItCannotRunOnAGpu) {
  for (const char* command : {"generate --prompt x", "eval --text x", "serve --listen 127.0.0.1:0", "inspect"})
    expect_refusal(pleat(std::string(command) + " --device cuda --model " + model()), "CUDA");
}

TEST(CommandLine, NamesAMissingModelOnceWhateverTheNumberOfRanks) {
  for (const int ranks : {0, 3}) {
    expect_refusal(pleat("generate --model /no/such/folder --prompt x", ranks), "/no/such/folder");
    expect_refusal(pleat("eval --model /no/such/folder --text x", ranks), "/no/such/folder");
  }
  expect_refusal(pleat("inspect --model /no/such/folder"), "/no/such/folder");
}

TEST(CommandLine, WrongFlagsUnderMpirunAreSaidOnce) {
  expect_refusal(pleat("generate --model " + model() + " --prompt x --colour red", 2), "--colour");
}

TEST(CommandLine, RefusesATruncatedCheckpointOnAnyNumberOfRanks) {
  const Scratch scratch;
  const std::string folder = scratch.path("model");
  std::filesystem::copy(model(), folder);
  std::filesystem::resize_file(folder + "/model.safetensors", 9'000'000);
  for (const int ranks : {0, 2})
    expect_refusal(pleat("generate --model " + folder + " --prompt x", ranks), "model.safetensors");
}

TEST(CommandLine, FoldingUnderMpirunIsRefusedInOneSentence) {
  const Scratch scratch;
  expect_refusal(pleat("fold --model " + model() + " --text x --out " + scratch.path("out"), 2), "one process");
}

TEST(CommandLine, InspectCountsEveryHeadAndNeuronOnce) {
  const Outcome outcome = pleat("inspect --model " + model() + " --ranks 3 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto report = nlohmann::json::parse(outcome.out);
  ASSERT_EQ(report["ranks"].size(), 3u);
  for (const auto& [field, size] : {std::pair("heads", 5), {"neurons", 1280}, {"fold_inputs", 320}, {"vocab", 4096}}) {
    int end = 0;
    for (const auto& rank : report["ranks"]) {
      EXPECT_EQ(rank[field][0], end) << field;
      end = rank[field][1];
    }
    EXPECT_EQ(end, size) << field;
  }
}

}  // namespace
}  // namespace pleat::test
