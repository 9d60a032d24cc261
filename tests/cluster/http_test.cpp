// OpenAI's API: texts, events, and requests that are wrong.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/cluster/http_door.h"

namespace pleat::test {
namespace {

// The events of a stream, without their last one.
std::vector<json> events(const std::string& body) {
  std::vector<json> all;
  std::istringstream lines(body);
  bool done = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    EXPECT_TRUE(line.starts_with("data: ") && !done) << line;
    done = line == "data: [DONE]";
    if (!done) all.push_back(json::parse(line.substr(6)));
  }
  EXPECT_TRUE(done) << body;
  return all;
}

TEST(Http, ACompletionIsTheReplicasText) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const auto answer =
      door.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", 7}, {"seed", 5}, {"model", "fake"}});
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.type, "application/json");
  const json body = answer.parsed();
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"][0]["text"], ruled_text(5, 7));
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["usage"], json({{"prompt_tokens", 3}, {"completion_tokens", 7}, {"total_tokens", 10}}));
}

TEST(Http, AChatsAnswerIsAMessage) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const json messages = {{{"role", "user"}, {"content", {{{"type", "text"}, {"text", "hi"}}}}}};
  const auto answer = door.post("/v1/chat/completions", {{"messages", messages}, {"max_tokens", 4}, {"seed", 6}});
  const json body = answer.parsed();
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0]["message"], json({{"role", "assistant"}, {"content", ruled_text(6, 4)}}));
}

TEST(Http, EventsJoinToTheSameTextWhenTheReplicaDiesInTheMiddle) {
  for (const bool chat : {false, true}) {
    for (size_t token = 0; token <= 5; ++token) {
      FakeWorld world;
      world["a"].dies_after = token;
      world["b"];
      Door door(world);
      json body = {{"max_tokens", 5}, {"seed", 9}, {"stream", true}, {"stream_options", {{"include_usage", true}}}};
      if (chat)
        body["messages"] = {{{"role", "user"}, {"content", "hi"}}};
      else
        body["prompt"] = "hi";
      const auto answer = door.post(chat ? "/v1/chat/completions" : "/v1/completions", body);
      ASSERT_EQ(answer.status, 200) << answer.body;
      std::string text;
      std::vector<json> all = events(answer.body);
      const json usage = all.back();
      all.pop_back();
      EXPECT_EQ(usage["choices"], json::array());
      EXPECT_EQ(usage["usage"], json({{"prompt_tokens", 3}, {"completion_tokens", 5}, {"total_tokens", 8}}));
      EXPECT_EQ(all.back()["choices"][0]["finish_reason"], "length");
      EXPECT_EQ(all.front().dump().find("assistant") != std::string::npos, chat);
      for (const json& event : all) {
        const json& choice = event["choices"][0];
        EXPECT_EQ(event["id"], usage["id"]);
        text += chat ? choice["delta"].value("content", "") : choice["text"].get<std::string>();
      }
      EXPECT_EQ(text, ruled_text(9, 5));
    }
  }
}

TEST(Http, SeveralTextsHaveSeedsOfTheirOwn) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const auto answer = door.post("/v1/completions", {{"prompt", {"x", "y"}}, {"n", 2}, {"max_tokens", 3}, {"seed", 20}});
  const json body = answer.parsed();
  ASSERT_EQ(body["choices"].size(), 4u) << answer.body;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], ruled_text(uint64_t(20 + i % 2), 3));
  }
  EXPECT_EQ(body["usage"], json({{"prompt_tokens", 6}, {"completion_tokens", 12}, {"total_tokens", 18}}));
}

TEST(Http, WithoutASeedEachTextHasAnother) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const json body = {{"prompt", "x"}, {"max_tokens", 4}};
  EXPECT_NE(door.post("/v1/completions", body).parsed()["choices"][0]["text"],
            door.post("/v1/completions", body).parsed()["choices"][0]["text"]);
}

TEST(Http, AStreamThatCannotGoOnEndsWithAnError) {
  FakeWorld world;
  world["a"].dies_after = 2;
  Door door(world);
  const auto answer = door.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", 9}, {"seed", 1}, {"stream", true}});
  EXPECT_EQ(answer.status, 200);
  const std::string last = answer.body.substr(answer.body.rfind("data: ") + 6);
  EXPECT_TRUE(json::parse(last)["error"]["message"].is_string()) << "no [DONE]: " << last;
}

TEST(Http, WrongRequestsAreSentences) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const std::pair<const char*, const char*> bodies[] = {
      {"", "the body is not valid JSON, at byte 1"},
      {"[]", "the body is not a JSON object"},
      {"{}", "'prompt' must be a text, token ids, or a list of these"},
      {R"({"prompt": []})", "'prompt' is an empty list"},
      {R"({"prompt": [1, -1]})", "'prompt' holds token id -1"},
      {R"({"prompt": "x", "n": 0})", "'n' must be 1 to 16"},
      {R"({"prompt": "x", "n": 1e99})", "'n' must be 1 to 16"},
      {R"({"prompt": ["x", "y"], "n": 16})", "the request asks for more than 16 texts"},
      {R"({"prompt": "x", "max_tokens": 5000})", "max_tokens is 5000, expected 1 to 4096"},
      {R"({"prompt": "x", "stream": 1})", "'stream' must be true or false"},
      {R"({"prompt": "x", "stream_options": {}})", "'stream_options' is an object, for requests that stream"},
      {R"({"prompt": "x", "echo": true})", "'echo' is not supported"},
      {R"({"prompt": "x", "temperature": "hot"})", "'temperature' must be a number"},
      {R"({"prompt": "x", "top_k": -2})", "top_k is -2, expected 0 (all) or more"},
      {R"({"prompt": "x", "logprobs": -1})", "logprobs is -1, expected 0 to 20"},
      {R"({"prompt": "x", "logprobs": 21})", "logprobs is 21, expected 0 to 20"},
      {R"({"prompt": "x", "messages": []})", "'messages' is not supported"},
      {R"({"prompt": "x", "model": "other"})", "the model 'other' is not served here, but 'fake' is"},
  };
  for (const auto& [body, sentence] : bodies) {
    const auto answer = door.ask(kj::HttpMethod::POST, "/v1/completions", body);
    EXPECT_EQ(answer.status, std::string(body).find("other") == std::string::npos ? 400 : 404) << body;
    EXPECT_EQ(answer.error(), sentence);
  }
  const auto chat = door.post("/v1/chat/completions",
                              {{"messages", {{{"role", "user"}, {"content", "x"}, {"tool_calls", json::array()}}}}});
  EXPECT_EQ(chat.error(), "'tool_calls' of a message is not supported");
  const auto top =
      door.post("/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", "x"}}}}, {"top_logprobs", 2}});
  EXPECT_EQ(top.error(), "'top_logprobs' is for chats with 'logprobs': true");
  const auto both =
      door.post("/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", "x"}}}}, {"prompt", "x"}});
  EXPECT_EQ(both.error(), "'prompt' is not supported");
  EXPECT_EQ(door.ask(kj::HttpMethod::POST, "/v1/completions", std::string(100'000, '[')).status, 400);
  EXPECT_EQ(door.get("/v1/completions").status, 405);
  EXPECT_EQ(door.get("/nowhere").status, 404);
  EXPECT_EQ(world["a"].requests, 0);
}

TEST(Http, TopLogprobsOfAChatCountWhereLogprobsIsTrue) {
  const auto logprobs = [](json body) {
    body["messages"] = {{{"role", "user"}, {"content", "x"}}};
    return read_openai_request(body, true, {}).sampling.logprobs;
  };
  EXPECT_EQ(logprobs({{"logprobs", true}}), 0);
  EXPECT_EQ(logprobs({{"logprobs", true}, {"top_logprobs", 2}}), 2);
  EXPECT_EQ(logprobs({{"logprobs", false}, {"top_logprobs", 0}}), -1);
  EXPECT_EQ(logprobs({{"top_logprobs", 0}}), -1);
  EXPECT_THROW(logprobs({{"logprobs", false}, {"top_logprobs", 2}}), Error);
  EXPECT_THROW(logprobs({{"top_logprobs", 2}}), Error);
  EXPECT_THROW(logprobs({{"logprobs", true}, {"top_logprobs", -1}}), Error);
  EXPECT_THROW(logprobs({{"logprobs", true}, {"top_logprobs", 21}}), Error);
}

TEST(Http, TopKOfMinusOneIsAllAsInVllm) {
  const auto top_k = [](int value) {
    return read_openai_request(json{{"prompt", "x"}, {"top_k", value}}, false, {}).sampling.top_k;
  };
  EXPECT_EQ(top_k(-1), 0);
  EXPECT_EQ(top_k(0), 0);
  EXPECT_EQ(top_k(5), 5);
}

TEST(Http, MaxCompletionTokensGoesBeforeItsOldName) {
  const auto max_tokens = [](json body) {
    body["messages"] = {{{"role", "user"}, {"content", "x"}}};
    return read_openai_request(body, true, {}).sampling.max_tokens;
  };
  EXPECT_EQ(max_tokens({{"max_completion_tokens", 3}, {"max_tokens", 4}}), 3);
  EXPECT_EQ(max_tokens({{"max_completion_tokens", nullptr}, {"max_tokens", 4}}), 4);
  EXPECT_EQ(max_tokens({{"max_completion_tokens", 3}}), 3);
}

// The first piece, and later ones, are as long as the other end likes.
TEST(Http, TokensOfOnePieceAreNoTimeOrItsTimeApart) {
  FakeWorld world;
  world["a"].piece_tokens = 3;
  Door door(world);
  world.pass(10 * kj::SECONDS);
  ASSERT_EQ(door.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", 6}}).status, 200);
  const std::string metrics = door.get("/metrics").body;
  for (const char* line : {"vllm:inter_token_latency_seconds_count{model_name=\"fake\"} 5\n",
                           "vllm:inter_token_latency_seconds_bucket{model_name=\"fake\",le=\"0.025\"} 5\n"})
    EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
}

TEST(Http, TokensAreCountedAsTheyComeAndTextsWhenTheyHaveEnded) {
  FakeWorld world;
  world["a"].stops_after = 5;
  world["a"].ends_after = 8;
  Door door(world);
  const auto count = [&](const std::string& name) {
    const std::string metrics = door.get("/metrics").body, line = "\nvllm:" + name + "{model_name=\"fake\"} ";
    const size_t at = metrics.find(line);
    return at == std::string::npos ? -1 : std::stoi(metrics.substr(at + line.size()));
  };
  const json body = {{"prompt", {"x", "y"}}, {"n", 3}, {"max_tokens", 20}};
  auto answer = door.start(kj::HttpMethod::POST, "/v1/completions", body.dump()).eagerlyEvaluate(nullptr);
  world.pass(1 * kj::SECONDS);
  EXPECT_EQ(count("generation_tokens_total"), 6 * 5);
  EXPECT_EQ(count("request_generation_tokens_count"), 0);
  world["a"].stops_after = SIZE_MAX;
  world.kill("a");
  EXPECT_EQ(world.wait(kj::mv(answer)).status, 200);
  EXPECT_EQ(count("generation_tokens_total"), 6 * 8) << "none twice";
  EXPECT_EQ(count("request_generation_tokens_count"), 6);
  EXPECT_EQ(count("request_generation_tokens_sum"), 6 * 8);
  EXPECT_EQ(count("request_params_max_tokens_sum"), 6 * 20);
  EXPECT_EQ(count("request_params_n_count"), 2);
  EXPECT_EQ(count("request_params_n_sum"), 2 * 3);
}

TEST(Http, ModelsMetricsAndReplicasCanBeSeen) {
  FakeWorld world;
  world["a"];
  Door door(world);
  door.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", 7}});
  world.pass(1 * kj::SECONDS);
  EXPECT_EQ(door.get("/v1/models").parsed()["data"][0]["id"], "fake");
  EXPECT_EQ(door.get("/v1/models/fake").parsed()["object"], "model");
  EXPECT_EQ(door.get("/v1/models/other").status, 404);
  EXPECT_EQ(door.get("/ready").status, 200);
  const std::string metrics = door.get("/metrics").body;
  for (const char* line : {"vllm:generation_tokens_total{model_name=\"fake\"} 7\n",
                           "vllm:prompt_tokens_total{model_name=\"fake\"} 3\n",
                           "vllm:request_success_total{model_name=\"fake\",finished_reason=\"length\"} 1\n",
                           "vllm:time_to_first_token_seconds_count{model_name=\"fake\"} 1\n",
                           "vllm:inter_token_latency_seconds_count{model_name=\"fake\"} 6\n",
                           "vllm:inter_token_latency_seconds_bucket{model_name=\"fake\",le=\"0.005\"} 0\n",
                           "vllm:inter_token_latency_seconds_bucket{model_name=\"fake\",le=\"0.025\"} 6\n",
                           "vllm:request_time_per_output_token_seconds_count{model_name=\"fake\"} 1\n",
                           "vllm:request_time_per_output_token_seconds_bucket{model_name=\"fake\",le=\"0.005\"} 0\n",
                           "vllm:request_time_per_output_token_seconds_bucket{model_name=\"fake\",le=\"0.025\"} 1\n",
                           "vllm:request_prompt_tokens_sum{model_name=\"fake\"} 3\n",
                           "vllm:request_prompt_tokens_bucket{model_name=\"fake\",le=\"2\"} 0\n",
                           "vllm:request_prompt_tokens_bucket{model_name=\"fake\",le=\"5\"} 1\n",
                           "vllm:request_generation_tokens_sum{model_name=\"fake\"} 7\n",
                           "vllm:request_generation_tokens_bucket{model_name=\"fake\",le=\"5\"} 0\n",
                           "vllm:request_generation_tokens_bucket{model_name=\"fake\",le=\"10\"} 1\n",
                           "vllm:request_generation_tokens_bucket{model_name=\"fake\",le=\"500000\"} 1\n",
                           "vllm:request_params_max_tokens_sum{model_name=\"fake\"} 7\n",
                           "vllm:request_params_n_bucket{model_name=\"fake\",le=\"1\"} 1\n",
                           "pleat:replica_up{model_name=\"fake\",replica=\"a\"} 1\n",
                           "pleat:replica_up{model_name=\"fake\",replica=\"b\"} 0\n",
                           "pleat:texts_running{model_name=\"fake\"} 0\n",
                           "pleat:replica_generated_tokens_total{model_name=\"fake\",replica=\"a\"} 7\n",
                           "vllm:num_preemptions_total{model_name=\"fake\",replica=\"a\"} 2\n",
                           "pleat:collective_time_share{model_name=\"fake\",replica=\"a\"} 0.25\n",
                           "pleat:fallback_rate{model_name=\"fake\",replica=\"a\",layer=\"1\"} 0.2\n",
                           "pleat:predictor_recall{model_name=\"fake\",replica=\"a\",layer=\"1\"} 0.75\n"})
    EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
  EXPECT_EQ(metrics.find("layer=\"0\""), std::string::npos) << "a layer without choices";
  const json replicas = door.get("/v1/pleat/replicas").parsed()["data"];
  EXPECT_EQ(replicas[0]["usable"], true);
  EXPECT_EQ(replicas[0]["stats"]["generatedTokens"], 7);
  EXPECT_EQ(replicas[1]["trouble"], "nobody listens there");
  EXPECT_EQ(door.get("/").type, "text/html; charset=utf-8");
  world["a"].silent = true;
  world.kill("a");
  world.pass(1 * kj::SECONDS);
  EXPECT_EQ(door.get("/ready").status, 503);
  EXPECT_NE(door.get("/metrics").body.find("pleat:replica_up{model_name=\"fake\",replica=\"a\"} 0\n"),
            std::string::npos)
      << "series keep their labels";
}

}  // namespace
}  // namespace pleat::test
