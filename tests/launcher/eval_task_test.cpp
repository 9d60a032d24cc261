// `pleat eval --task` against Hugging Face's log-likelihoods (fixtures/make_tasks.py).
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

using nlohmann::json;

TEST(EvalTask, LogLikelihoodsAndPicksAreHuggingFacesOnAnyNumberOfRanks) {
  const json tasks = json::parse(std::ifstream(std::string(PLEAT_SOURCE_DIR) + "/tests/fixtures/tasks.json"));
  ASSERT_EQ(tasks.size(), 5u);
  for (const auto& [task, fixture] : tasks.items())
    for (int ranks : {0, 3}) {
      const Scratch scratch;
      std::string lines;
      for (const json& line : fixture["lines"]) lines += line.dump() + "\n";
      scratch.write("items", lines);
      const Outcome outcome = pleat("eval --json --quiet --dtype f32 --model " + model() + " --task " + task +
                                        " --data " + scratch.path("items") + " --output " + scratch.path("out"),
                                    ranks);
      ASSERT_EQ(outcome.code, 0) << outcome.err;
      std::map<std::string, json> by_id;
      for (const json& record : scratch.records("out")) by_id[record["id"]] = record;
      std::vector<json> items;
      for (size_t i = 0; i < fixture["lines"].size(); ++i)
        items.push_back(by_id[fixture["lines"][i].value("id", std::to_string(i))]);
      ASSERT_EQ(items.size(), fixture["expected"].size());
      int right = 0;
      for (size_t i = 0; i < items.size(); ++i) {
        const auto expected = fixture["expected"][i].get<std::vector<double>>();
        for (size_t choice = 0; choice < expected.size(); ++choice)
          EXPECT_NEAR(items[i]["log_likelihoods"][choice].get<double>(), expected[choice], 1e-3) << task << " " << i;
        const auto best = std::max_element(expected.begin(), expected.end()) - expected.begin();
        EXPECT_EQ(items[i]["pick"], best);
        EXPECT_EQ(items[i]["gold"], fixture["gold"][i]);
        right += best == fixture["gold"][i];
      }
      const json report = json::parse(outcome.out);
      EXPECT_EQ(report["items"], items.size());
      EXPECT_NEAR(report["acc"].get<double>(), double(right) / double(items.size()), 1e-9);
      EXPECT_EQ(report.contains("acc_norm"), task.starts_with("arc") || task == "piqa");
    }
}

TEST(EvalTask, BadItemsAreRefusedWithTheirLine) {
  const Scratch scratch;
  const std::string flags = "eval --quiet --model " + model() + " --task piqa --data ";
  for (const auto& [content, part] :
       {std::pair{"{\"goal\": \"a\"}\n", "line 1"}, std::pair{"\nnonsense\n", "line 2"}, std::pair{"", "no items"}}) {
    scratch.write("items", content);
    const Outcome outcome = pleat(flags + scratch.path("items"));
    EXPECT_EQ(outcome.code, 2);
    ASSERT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
    EXPECT_NE(own_errors(outcome)[0].find(part), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(pleat(flags + "/nowhere").code, 2);
}

TEST(Chat, AModelWithoutATemplateSaysSo) {
  const Outcome outcome = pleat("generate --quiet --chat --prompt Hello --model " + model());
  EXPECT_EQ(outcome.code, 2);
  ASSERT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
  EXPECT_NE(own_errors(outcome)[0].find("no chat template"), std::string::npos);
}

TEST(Chat, ARecordIsRenderedWithTheModelsTemplateAndAnsweredByAMessage) {
  const Scratch scratch;
  std::filesystem::create_directory(scratch.path("model"));
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"})
    std::filesystem::create_symlink(model() + "/" + file, scratch.path("model/") + file);
  scratch.write(
      "model/tokenizer_config.json",
      R"({"eos_token": "<|endoftext|>", "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n)"
      R"({% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"})");
  scratch.write("in",
                R"({"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": {"max_tokens": 5,)"
                R"( "logprobs": true, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}})"
                "\n"
                R"({"custom_id": "plain", "prompt": "user: Hi\nassistant:", "max_tokens": 5})"
                "\n"
                R"({"custom_id": "empty", "messages": []})"
                "\n");
  const Outcome outcome = pleat("generate --quiet --model " + scratch.path("model") + " --input " + scratch.path("in") +
                                    " --output " + scratch.path("out"),
                                2);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::map<std::string, json> records;
  for (const json& record : scratch.records("out")) records[record["custom_id"]] = record;
  const json chat = records["chat"]["response"]["body"], plain = records["plain"]["response"]["body"];
  EXPECT_EQ(chat["object"], "chat.completion");
  EXPECT_EQ(chat["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(chat["choices"][0]["message"]["content"], plain["choices"][0]["text"]);
  EXPECT_EQ(chat["choices"][0]["logprobs"]["content"].size(), chat["usage"]["completion_tokens"]);
  EXPECT_EQ(chat["usage"], plain["usage"]);
  EXPECT_NE(records["empty"]["error"]["message"].get<std::string>().find("'messages'"), std::string::npos);
}

}  // namespace
}  // namespace pleat::test
