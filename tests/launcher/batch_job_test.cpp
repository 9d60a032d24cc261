// The batch job as a user runs it: lines in, lines out, whatever the lines hold and whatever happens to the job.
#include <gtest/gtest.h>

#include <map>

#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

using nlohmann::json;

std::string job(const Scratch& scratch, const std::string& more = "", const std::string& output = "out.jsonl") {
  return "generate --model " + model() + " --input " + scratch.path("in.jsonl") + " --output " + scratch.path(output) +
         " --max-tokens 6 " + more;
}

std::map<std::string, json> by_id(const std::vector<json>& records) {
  std::map<std::string, json> all;
  for (const json& record : records) EXPECT_TRUE(all.emplace(record["custom_id"], record).second) << record;
  return all;
}

std::string many_prompts(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += json{{"custom_id", "r" + std::to_string(i)},
                 {"prompt", std::string(size_t(i), 'a') + " Chapter " + std::to_string(i)},
                 {"max_tokens", 3 + i % 5},
                 {"temperature", i % 2 ? 0.9 : 0.0},
                 {"seed", i}}
                .dump() +
            "\n";
  return text;
}

TEST(BatchJob, AnswersBothFormsOfARecordInOpenAisShape) {
  const Scratch scratch;
  scratch.write(
      "in.jsonl",
      R"({"custom_id": "short", "prompt": "The history of the", "max_tokens": 5, "logprobs": 2})"
      "\r\n\n"
      R"({"custom_id": "long", "method": "POST", "url": "/v1/completions", "body": {"model": "m", "prompt": "The history of the", "max_tokens": 5, "n": 1, "stop": null}})"
      "\n"
      R"({"custom_id": "ids", "prompt": [457, 2197, 290, 264], "max_tokens": 5})"
      "\n"
      R"({"custom_id": "empty", "prompt": ""})");
  const Outcome outcome = pleat(job(scratch, "--dtype f32"));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  auto records = by_id(scratch.records("out.jsonl"));
  ASSERT_EQ(records.size(), 4u);
  for (const char* id : {"short", "long", "ids"}) {
    const json& body = records[id]["response"]["body"];
    EXPECT_EQ(records[id]["response"]["status_code"], 200);
    EXPECT_TRUE(records[id]["error"].is_null());
    EXPECT_EQ(body["object"], "text_completion");
    EXPECT_EQ(body["model"], "pleat-gpt2-9m");
    // Hugging Face's greedy tokens 351 87 1529 2 1673.
    EXPECT_EQ(body["choices"][0]["text"], " \"were\" branch") << id;
    EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
    EXPECT_EQ(body["usage"], (json{{"prompt_tokens", 4}, {"completion_tokens", 5}, {"total_tokens", 9}}));
  }
  const json logprobs = records["short"]["response"]["body"]["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"].size(), 5u);
  EXPECT_EQ(logprobs["top_logprobs"][0].size(), 2u);
  EXPECT_LT(logprobs["token_logprobs"][0], 0);
  EXPECT_TRUE(records["empty"]["error"].is_null());
}

TEST(BatchJob, ABadLineGivesAnErrorRecordAndTheRestGoesOn) {
  const Scratch scratch;
  scratch.write("in.jsonl",
                "not JSON\n"
                "[1, 2]\n"
                "{\"custom_id\": \"bytes\xff\", \"prompt\": \"x\"}\n"
                R"({"prompt": "no id"})"
                "\n"
                R"({"custom_id": "n", "prompt": "x", "n": 2})"
                "\n"
                R"({"custom_id": "echo", "prompt": "x", "echo": true})"
                "\n"
                R"({"custom_id": "typo", "prompt": "x", "max_token": 3})"
                "\n"
                R"({"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}})"
                "\n"
                R"({"custom_id": "none"})"
                "\n"
                R"({"custom_id": "id", "prompt": [4096]})"
                "\n"
                R"({"custom_id": "range", "prompt": "x", "temperature": -1})"
                "\n"
                R"({"custom_id": "good", "prompt": "x"})"
                "\n"
                R"({"custom_id": "good", "prompt": "y"})"
                "\n");
  const Outcome outcome = pleat(job(scratch));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  auto records = by_id(scratch.records("out.jsonl"));
  EXPECT_EQ(records.size(), 13u);
  EXPECT_TRUE(records["good"]["error"].is_null());
  const std::map<std::string, std::string> expected = {
      {"line-1", "JSON"},   {"line-2", "object"}, {"line-3", "JSON"},       {"line-4", "custom_id"},
      {"n", "'n'"},         {"echo", "'echo'"},   {"typo", "'max_token'"},  {"chat", "no chat template"},
      {"none", "'prompt'"}, {"id", "4096"},       {"range", "temperature"}, {"line-13", "'good'"}};
  for (const auto& [id, word] : expected) {
    ASSERT_TRUE(records.count(id)) << id;
    EXPECT_TRUE(records[id]["response"].is_null());
    EXPECT_NE(records[id]["error"]["message"].get<std::string>().find(word), std::string::npos) << records[id];
  }
  // A resume repeats neither texts nor errors.
  const std::string before = scratch.read("out.jsonl");
  ASSERT_EQ(pleat(job(scratch, "--resume")).code, 0);
  EXPECT_EQ(scratch.read("out.jsonl"), before);
}

TEST(BatchJob, AConversationOfWrongTypesGivesAnErrorRecordAndTheRestGoesOn) {
  const Scratch scratch;
  const std::string chats = scratch.path("chats");
  std::filesystem::create_directory(chats);
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"})
    std::filesystem::create_symlink(model() + "/" + file, chats + "/" + file);
  json config = json::parse(std::ifstream(model() + "/tokenizer_config.json"));
  config["chat_template"] =
      json::array({json{{"name", 5}},
                   json{{"name", "default"}, {"template", "{{ messages[0]['role'] + messages[0]['content'] }}"}}});
  scratch.write("chats/tokenizer_config.json", config.dump());
  const std::vector<std::string> bad = {R"([{"role": "user", "content": [{"type": 5, "text": "x"}]}])",
                                        R"([{"role": "user", "content": [{"type": "text", "text": 5}]}])",
                                        R"([{"role": "user", "content": [5]}])",
                                        R"([{"role": "user", "content": 5}])",
                                        R"([{"role": "user", "content": null}])",
                                        R"([{"role": "user"}])",
                                        R"([{"role": 5, "content": "x"}])",
                                        R"([5])",
                                        R"({"role": "user"})"};
  std::string lines;
  for (size_t i = 0; i < bad.size(); ++i)
    lines += R"({"custom_id": ")" + std::to_string(i) + R"(", "messages": )" + bad[i] + "}\n";
  scratch.write("in.jsonl", lines + R"({"custom_id": "good", "messages": [{"role": "user", "content": "x"}]})");
  const Outcome outcome = pleat("generate --max-tokens 2 --model " + chats + " --input " + scratch.path("in.jsonl") +
                                " --output " + scratch.path("out.jsonl"));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  auto records = by_id(scratch.records("out.jsonl"));
  EXPECT_EQ(records.size(), bad.size() + 1);
  EXPECT_TRUE(records["good"]["error"].is_null());
  for (size_t i = 0; i < bad.size(); ++i)
    EXPECT_EQ(records[std::to_string(i)]["error"]["code"], "invalid_request") << bad[i];
}

// The other ranks hear of rank 0 while it waits, and what has come is answered before the rest comes.
TEST(BatchJob, ReadsAPipeWhoseWriterTakesItsTime) {
  const Scratch scratch;
  const std::string pipe = scratch.path("in.jsonl"), out = scratch.path("out.jsonl");
  const Outcome outcome =
      shell("mkfifo " + pipe +
            "; (sleep 3; echo '{\"custom_id\": \"a\", \"prompt\": \"x\"}'; for i in $(seq 150); do [ ! -s " + out +
            " ] || break; sleep 0.2; done; sleep 4; echo '{\"custom_id\": \"b\", \"prompt\": \"x\"}') > " + pipe +
            " & " + pleat_command(job(scratch, "--quiet --step-timeout 2"), 2));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(scratch.records("out.jsonl").size(), 2u);
}

TEST(BatchJob, TextsDependNeitherOnRanksNorOnTheBatch) {
  const Scratch scratch;
  scratch.write("in.jsonl", many_prompts(24));
  ASSERT_EQ(pleat(job(scratch, "", "alone")).code, 0);
  const auto expected = scratch.lines("alone");
  ASSERT_EQ(expected.size(), 24u);
  for (const int ranks : {1, 2, 3}) {
    const std::string name = "ranks" + std::to_string(ranks);
    const Outcome outcome = pleat(job(scratch, "", name), ranks);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(scratch.lines(name), expected) << ranks << " ranks";
  }
  for (const std::string flags : {"--batch=1", "--batch=4", "--prefill-chunk=3"}) {
    ASSERT_EQ(pleat(job(scratch, flags, flags)).code, 0);
    EXPECT_EQ(scratch.lines(flags), expected) << flags;
  }
}

TEST(BatchJob, RefusesAnOutputThatHoldsSomething) {
  const Scratch scratch;
  scratch.write("in.jsonl", many_prompts(1));
  scratch.write("out.jsonl", "precious\n");
  for (const char* flags : {"", "--resume"}) {
    const Outcome outcome = pleat(job(scratch, flags), 2);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
    EXPECT_EQ(scratch.read("out.jsonl"), "precious\n");
  }
}

TEST(BatchJob, ResumesAfterACutLineWithoutLosingOrRepeatingARecord) {
  const Scratch scratch;
  scratch.write("in.jsonl", many_prompts(10));
  ASSERT_EQ(pleat(job(scratch, "", "whole")).code, 0);
  const std::string whole = scratch.read("whole");
  for (const size_t cut : {size_t(0), size_t(1), whole.size() / 2, whole.find('\n'), whole.find('\n') + 1,
                           whole.size() - 1, whole.size()}) {
    scratch.write("out.jsonl", whole.substr(0, cut));
    ASSERT_EQ(pleat(job(scratch, "--resume")).code, 0);
    EXPECT_EQ(scratch.lines("out.jsonl"), scratch.lines("whole")) << "cut at " << cut;
  }
}

TEST(BatchJob, AFullDiskIsOneSentenceAndTheJobResumes) {
  const Scratch scratch;
  scratch.write("in.jsonl", many_prompts(12));
  ASSERT_EQ(pleat(job(scratch, "", "whole")).code, 0);
  // Files of this shell end after 2 KiB: the write that reaches it is cut.
  const Outcome outcome = shell("ulimit -f 4; exec " + pleat_command(job(scratch)));
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
  const std::string part = scratch.read("out.jsonl");
  ASSERT_FALSE(part.empty());
  EXPECT_EQ(part.back(), '\n');
  EXPECT_LT(scratch.lines("out.jsonl").size(), 12u);
  ASSERT_EQ(pleat(job(scratch, "--resume")).code, 0);
  EXPECT_EQ(scratch.lines("out.jsonl"), scratch.lines("whole"));
}

TEST(BatchJob, AFullDeviceEndsAllRanksWithCodeOne) {
  const Scratch scratch;
  scratch.write("in.jsonl", many_prompts(3));
  const Outcome outcome = pleat(
      "generate --model " + model() + " --input " + scratch.path("in.jsonl") + " --output /dev/full --max-tokens 4", 2);
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
  EXPECT_NE(outcome.err.find("/dev/full"), std::string::npos);
}

TEST(BatchJob, ASecondJobOnTheSameOutputIsRefused) {
  const Scratch scratch;
  scratch.write("in.jsonl", many_prompts(1));
  const Outcome outcome =
      shell("exec 9>>'" + scratch.path("out.jsonl") + "'; flock 9; " + pleat_command(job(scratch, "--resume")));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("another job"), std::string::npos) << outcome.err;
}

TEST(BatchJob, ASignalEndsItInOrderAndItResumes) {
  const Scratch scratch;
  std::string input;
  for (int i = 0; i < 400; ++i)
    input += "{\"custom_id\": \"r" + std::to_string(i) +
             "\", \"prompt\": \"x\", \"max_tokens\": 60, \"ignore_eos\": true}\n";
  scratch.write("in.jsonl", input);
  const std::string command = pleat_command("generate --model " + model() + " --batch 4 --input " +
                                            scratch.path("in.jsonl") + " --output " + scratch.path("out.jsonl"));
  // Signalled once the first record is there.
  const Outcome outcome = shell(command + " & job=$!; until [ -s '" + scratch.path("out.jsonl") +
                                "' ]; do sleep 0.05; done; kill -TERM $job; wait $job");
  EXPECT_EQ(outcome.code, 143) << outcome.err;
  const std::string part = scratch.read("out.jsonl");
  EXPECT_EQ(part.back(), '\n');
  EXPECT_LT(scratch.records("out.jsonl").size(), 400u);
  EXPECT_NE(outcome.err.find("--resume"), std::string::npos) << outcome.err;
}

TEST(Prompt, TheTextGoesToStdoutAndNothingElse) {
  const Outcome outcome = pleat("generate --model " + model() + " --dtype f32 --prompt 'The history of the'");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, " \"were\" branch is the \"were\" branch.\n");
  EXPECT_NE(outcome.err.find("tok/s"), std::string::npos);
  const Outcome quiet =
      pleat("generate --quiet --json --model " + model() + " --dtype f32 --prompt 'The history of the'", 2);
  EXPECT_EQ(quiet.err, "");
  const std::string first = quiet.out.substr(0, quiet.out.find('\n'));
  EXPECT_EQ(json::parse(first)["choices"][0]["text"], " \"were\" branch is the \"were\" branch.");
  EXPECT_EQ(json::parse(quiet.out.substr(first.size() + 1))["tokens"], 14);
}

}  // namespace
}  // namespace pleat::test
