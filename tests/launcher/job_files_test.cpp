// What a batch job's files may be: pipes, devices, another job's or no output at all, lines without an end.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

using nlohmann::json;

class JobFiles : public testing::Test {
 protected:
  JobFiles() {
    std::string text;
    for (int i = 0; i < 60; ++i)
      text += json{{"custom_id", std::to_string(i)}, {"prompt", "The shared"}, {"max_tokens", 4}}.dump() + "\n";
    scratch.write("in.jsonl", text);
  }
  std::string command(const std::string& output, const std::string& more = "",
                      const std::string& folder = model()) const {
    return pleat_command("generate --quiet --model " + folder + " --input " + scratch.path("in.jsonl") + " --output " +
                         output + " " + more);
  }
  static void expect_sentence(const Outcome& outcome, int code, const std::string& part) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  }

  const Scratch scratch;
};

TEST_F(JobFiles, ResumeTouchesNothingThatIsNoOutput) {
  const std::string requests = scratch.read("in.jsonl"), one = requests.substr(0, requests.find('\n'));
  const std::string part = scratch.path("part");
  for (const std::string& text : {requests, requests.substr(0, requests.size() - 1), one, std::string("precious")}) {
    scratch.write("part", text);
    expect_sentence(shell(command(part, "--resume")), 2, "--resume does not touch such a file");
    EXPECT_EQ(scratch.read("part"), text);
  }
  scratch.write("part", std::string(100, '\0'));  // a file system's, after its machine lost power
  EXPECT_EQ(shell(command(part, "--resume")).code, 0);
  EXPECT_EQ(scratch.records("part").size(), 60u);
}

TEST_F(JobFiles, ResumeDoesNotMixModels) {
  ASSERT_EQ(shell(command(scratch.path("out"), "")).code, 0);
  const std::string before = scratch.read("out"), other = scratch.path("other");
  std::filesystem::create_directory_symlink(model(), other);
  expect_sentence(shell(command(scratch.path("out"), "--resume", other)), 2, "holds texts of the model");
  EXPECT_EQ(scratch.read("out"), before);
}

TEST_F(JobFiles, APipeIsWrittenWhileSomebodyReadsIt) {
  const std::string pipe = scratch.path("pipe"), made = "mkfifo " + pipe + "; ";
  expect_sentence(shell(made + command(pipe)), 2, "nobody reads output");
  const Outcome read = shell("cat " + pipe + " > " + scratch.path("read") + " & sleep 0.3; " + command(pipe) +
                             "; code=$?; wait; exit $code");
  EXPECT_EQ(read.code, 0) << read.err;
  EXPECT_EQ(scratch.records("read").size(), 60u);
  expect_sentence(shell("head -c 10 " + pipe + " > /dev/null & sleep 0.3; " + command(pipe)), 1, "Broken pipe");
  // One that reads nothing, and an output that is more than a pipe holds.
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += json{{"custom_id", std::to_string(i)}, {"prompt", "x"}, {"max_tokens", 8}, {"logprobs", 5}}.dump() + "\n";
  scratch.write("in.jsonl", text);
  expect_sentence(shell("sleep 30 < " + pipe + " & reader=$!; sleep 0.3; timeout --preserve-status -s TERM 4 " +
                        command(pipe) + "; code=$?; kill $reader; exit $code"),
                  1, "Interrupted");
}

TEST_F(JobFiles, ADeviceIsNobodysAlone) {
  const Outcome outcome = shell("exec 9>/dev/null; flock 9; " + command("/dev/null"));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
}

TEST_F(JobFiles, ALineWithoutAnEndIsNotHeldAndStopsNothing) {
  const std::string long_line = scratch.path("long");
  {
    std::ofstream out(long_line);
    out << R"({"custom_id": "a", "prompt": "x", "max_tokens": 2})"
        << "\n"
        << std::string((size_t(64) << 20) + 7, 'x') << "\n"
        << R"({"custom_id": "b", "prompt": "x", "max_tokens": 2})";
  }
  const Outcome outcome =
      pleat("generate --quiet --model " + model() + " --input " + long_line + " --output " + scratch.path("out"));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<json> records = scratch.records("out");
  ASSERT_EQ(records.size(), 3u);
  for (const json& record : records)
    if (record["custom_id"] == "line-2")
      EXPECT_EQ(record["error"]["message"], "line 2 has more than 67108864 bytes");
    else
      EXPECT_TRUE(record["error"].is_null()) << record;
  const Outcome endless = shell("ulimit -v 4000000; timeout --preserve-status -s TERM 5 " +
                                pleat_command("generate --quiet --threads 1 --model " + model() +
                                              " --input /dev/zero --output " + scratch.path("none")));
  expect_sentence(endless, 143, "interrupted");
}

}  // namespace
}  // namespace pleat::test
