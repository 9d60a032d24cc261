// `pleat route` in front of servers, as a user runs them, on sockets.
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "tests/cluster/program/http_client.h"
#include "tests/cluster/program/served.h"

namespace pleat::test {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

class Routed : public Background {
 public:
  explicit Routed(const std::string& flags) : Background(pleat_command("route --http 127.0.0.1:0 " + flags)) {
    for (int i = 0; i < 500 && get("/ready") != 200; ++i) std::this_thread::sleep_for(10ms);
  }
  int get(const std::string& path) const { return HttpClient(address()).get(path); }
  std::string page(const std::string& path) const {
    HttpClient client(address());
    client.get(path);
    return client.body();
  }
  // Whether it comes to have so many texts under way.
  bool comes_to_run(int texts) const {
    const std::string line = "pleat:texts_running{model_name=\"pleat-gpt2-9m\"} " + std::to_string(texts) + "\n";
    for (int i = 0; i < 400; ++i, std::this_thread::sleep_for(5ms))
      if (page("/metrics").find(line) != std::string::npos) return true;
    return false;
  }
};

json completion(int tokens, bool stream) {
  return {{"prompt", "The history of the"},
          {"max_tokens", tokens},
          {"temperature", 0.8},
          {"seed", 5},
          {"stream", stream},
          {"ignore_eos", true},
          {"logprobs", 0}};
}

std::string text_of(const std::string& address, int tokens) {
  HttpClient client(address);
  EXPECT_EQ(client.post("/v1/completions", completion(tokens, false).dump()), 200) << client.body();
  return json::parse(client.body())["choices"][0]["text"];
}

struct Streamed {
  std::string text;
  std::vector<std::string> tokens;
};

// grown: with the number of tokens that have come.
Streamed stream(const std::string& address, int tokens, const std::function<void(size_t)>& grown) {
  HttpClient client(address);
  Streamed streamed;
  size_t at = 0;
  bool done = false;
  const int status = client.post("/v1/completions", completion(tokens, true).dump(), [&] {
    for (size_t end = 0; (end = client.body().find("\n\n", at)) != std::string::npos; at = end + 2) {
      const std::string data = client.body().substr(at + 6, end - at - 6);
      if ((done = data == "[DONE]")) continue;
      const json choice = json::parse(data)["choices"][0];
      streamed.text += choice["text"];
      if (choice["logprobs"].is_object())
        for (const json& token : choice["logprobs"]["tokens"]) streamed.tokens.push_back(token);
    }
    grown(streamed.tokens.size());
  });
  EXPECT_EQ(status, 200);
  EXPECT_TRUE(done) << client.body();
  return streamed;
}

TEST(Route, AReplicaKilledInTheMiddleOfAStreamIsNotSeenInIt) {
  const Outcome written =
      pleat("generate --quiet --model " + model() +
            " --prompt 'The history of the' --max-tokens 200 --temperature 0.8 --seed 5 --ignore-eos");
  auto first = std::make_unique<Served>(0, "--threads 1"), second = std::make_unique<Served>(0, "--threads 1");
  const Routed routed("--replica " + first->address() + " " + second->address());
  const std::string expected = text_of(routed.address(), 200);
  EXPECT_EQ(expected + "\n", written.out) << "what generate writes";
  bool killed = false;
  const Streamed streamed = stream(routed.address(), 200, [&](size_t tokens) {
    if (tokens < 20 || std::exchange(killed, true)) return;
    const json replicas = json::parse(routed.page("/v1/pleat/replicas"))["data"];
    auto& victim = replicas[0]["load_tokens"] > 0 ? first : second;
    EXPECT_GT(replicas[&victim == &first ? 0 : 1]["load_tokens"], 0);
    kill(victim->pid(), SIGKILL);
  });
  EXPECT_TRUE(killed);
  EXPECT_EQ(streamed.text, expected);
  EXPECT_EQ(streamed.tokens.size(), 200u);
  EXPECT_NE(routed.page("/metrics").find("pleat:moves_total{model_name=\"pleat-gpt2-9m\"} 1\n"), std::string::npos);
  EXPECT_EQ(routed.get("/ready"), 200) << "one is left";
  EXPECT_EQ(text_of(routed.address(), 200), expected);
}

TEST(Route, AReplicaStoppedInTheMiddleOfAStreamIsLeft) {
  Served first(0, "--threads 1"), second(0, "--threads 1");
  const Routed routed("--replica " + first.address() + " " + second.address());
  const std::string expected = text_of(routed.address(), 200);
  pid_t stopped = 0;
  const Streamed streamed = stream(routed.address(), 200, [&](size_t tokens) {
    if (tokens < 20 || stopped) return;
    const json replicas = json::parse(routed.page("/v1/pleat/replicas"))["data"];
    const Served& victim = replicas[0]["load_tokens"] > 0 ? first : second;
    stopped = victim.pid();
    kill(stopped, SIGSTOP);
  });
  ASSERT_GT(stopped, 0);
  kill(stopped, SIGCONT);
  EXPECT_EQ(streamed.text, expected);
  EXPECT_NE(routed.page("/metrics").find("pleat:moves_total{model_name=\"pleat-gpt2-9m\"} 1\n"), std::string::npos);
}

TEST(Route, ARouterKilledBesideAnotherOneTakesOnlyItsOwnTextsWithIt) {
  const Served first(0, "--threads 1"), second(0, "--threads 1");
  const std::string both = "--replica " + first.address() + " " + second.address();
  const Routed killed(both), stays(both);
  const std::string expected = text_of(stays.address(), 200);
  HttpClient loses[] = {HttpClient(killed.address()), HttpClient(killed.address())};
  for (HttpClient& client : loses) client.begin_post("/v1/completions", completion(480, false).dump());
  EXPECT_TRUE(killed.comes_to_run(2));
  bool dead = false;
  const Streamed streamed = stream(stays.address(), 200, [&](size_t tokens) {
    if (tokens >= 20 && !std::exchange(dead, true)) kill(killed.pid(), SIGKILL);
  });
  EXPECT_TRUE(dead);
  EXPECT_EQ(streamed.text, expected);
  EXPECT_EQ(streamed.tokens.size(), 200u);
  const auto stats = [](const Served& served) { return json::parse(served.ask("--stats --json").out); };
  for (int i = 0; i < 400 && stats(first)["requests"].get<int>() + stats(second)["requests"].get<int>() > 0; ++i)
    std::this_thread::sleep_for(5ms);
  EXPECT_EQ(stats(first)["cancelled"].get<int>() + stats(second)["cancelled"].get<int>(), 2);
  const Routed again(both);
  EXPECT_EQ(text_of(again.address(), 200), expected) << "what the killed one's client asks for again";
  EXPECT_EQ(text_of(stays.address(), 200), expected);
}

TEST(Route, WithNoReplicaLeftItIs503AndSigtermLetsTextsFinish) {
  const Scratch scratch;
  Served served(0, "--threads 1");
  const std::string list = scratch.write("replicas", "# one so far\n" + served.address() + "\n");
  Routed routed("--replicas " + list);
  size_t seen = 0;
  const Streamed streamed = stream(routed.address(), 200, [&](size_t tokens) {
    if (seen == 0 && tokens > 10) kill(routed.pid(), SIGTERM);
    seen = tokens > 10 ? tokens : 0;
  });
  EXPECT_EQ(streamed.tokens.size(), 200u);
  EXPECT_EQ(routed.wait(), 0) << routed.errors();

  Routed alone("--replicas " + list);
  const Served other(0, "--threads 1");
  scratch.write("replicas", other.address() + "\n");
  for (int i = 0; i < 500 && alone.page("/v1/pleat/replicas").find(other.address()) == std::string::npos; ++i)
    std::this_thread::sleep_for(10ms);
  const json replicas = json::parse(alone.page("/v1/pleat/replicas"))["data"];
  ASSERT_EQ(replicas.size(), 1u);
  EXPECT_EQ(replicas[0]["address"], other.address());
  scratch.write("replicas", "127.0.0.1:1\n");
  for (int i = 0; i < 500 && alone.get("/ready") == 200; ++i) std::this_thread::sleep_for(10ms);
  HttpClient client(alone.address());
  EXPECT_EQ(client.post("/v1/completions", completion(2, false).dump()), 503) << client.body();
}

// What the chat adds to the text is its template, written out here.
TEST(Route, AChatIsTheTextOfItsRenderedPrompt) {
  const Scratch scratch;
  const Served served(0, "--threads 1", "127.0.0.1:0", chat_model(scratch));
  const Routed routed("--replica " + served.address());
  const auto ask = [&](bool chat, json body) {
    if (chat)
      body.update({{"messages",
                    {{{"role", "system"}, {"content", "Be brief."}},
                     {{"role", "user"}, {"content", {{{"type", "text"}, {"text", "The history of the"}}}}}}},
                   {"logprobs", true},
                   {"top_logprobs", 2}});
    else
      body.update({{"prompt",
                    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nThe history of the<|im_end|>\n"
                    "<|im_start|>assistant\n"},
                   {"logprobs", 2}});
    HttpClient client(routed.address());
    EXPECT_EQ(client.post(chat ? "/v1/chat/completions" : "/v1/completions", body.dump()), 200) << client.body();
    return client.body();
  };
  const json request = {{"max_tokens", 24}, {"temperature", 0.8}, {"seed", 5}, {"n", 2}, {"ignore_eos", true}};
  const json text = json::parse(ask(false, request)), chat = json::parse(ask(true, request));
  EXPECT_EQ(chat["usage"], text["usage"]);
  ASSERT_EQ(chat["choices"].size(), 2u);
  for (int i = 0; i < 2; ++i) {
    const json &said = chat["choices"][i], &written = text["choices"][i];
    EXPECT_EQ(said["message"], json({{"role", "assistant"}, {"content", written["text"]}}));
    EXPECT_EQ(said["finish_reason"], written["finish_reason"]);
    ASSERT_EQ(said["logprobs"]["content"].size(), 24u);
    for (int token = 0; token < 24; ++token) {
      EXPECT_EQ(said["logprobs"]["content"][token]["logprob"], written["logprobs"]["token_logprobs"][token]);
      EXPECT_EQ(said["logprobs"]["content"][token]["top_logprobs"].size(), 2u);
    }
  }

  std::string streamed;
  json streaming = request;
  streaming.update({{"n", 1}, {"stream", true}, {"stream_options", {{"include_usage", true}}}});
  std::istringstream events(ask(true, streaming));
  json last;
  for (std::string line; std::getline(events, line);)
    if (line.starts_with("data: {")) {
      last = json::parse(line.substr(6));
      for (const json& choice : last["choices"]) streamed += choice["delta"].value("content", "");
    }
  const std::string whole = text["choices"][0]["text"];
  EXPECT_EQ(streamed, whole);
  EXPECT_EQ(last["usage"]["prompt_tokens"], text["usage"]["prompt_tokens"]);

  json stopping = request;
  const std::string word = whole.substr(whole.size() / 2, 4);
  stopping.update({{"n", 1}, {"stop", word}});
  const json stopped = json::parse(ask(true, stopping))["choices"][0];
  EXPECT_EQ(stopped["message"]["content"], whole.substr(0, whole.find(word)));
  EXPECT_EQ(stopped["finish_reason"], "stop");
}

TEST(Route, AClientThatLeavesWhileItWaitsEndsItsText) {
  const Served served(0, "--threads 1");
  const Routed routed("--replica " + served.address());
  {
    HttpClient leaves(routed.address());
    leaves.begin_post("/v1/completions", completion(480, false).dump());
    EXPECT_TRUE(routed.comes_to_run(1));
  }
  EXPECT_TRUE(routed.comes_to_run(0));
  EXPECT_NE(routed.page("/metrics").find("finished_reason=\"abort\"} 1\n"), std::string::npos);
  EXPECT_EQ(json::parse(served.ask("--stats --json").out)["cancelled"], 1);
}

TEST(Route, AWrongCommandLineIsOneSentence) {
  EXPECT_EQ(pleat("route").code, 2);
  EXPECT_EQ(pleat("route --replicas /nowhere/at-all").code, 2);
  for (const char* address : {"127.0.0.1:99999", "127.0.0.1:-1", "''"}) {
    EXPECT_EQ(pleat(std::string("route --http 127.0.0.1:0 --replica ") + address).code, 2) << address;
    EXPECT_EQ(pleat(std::string("ask --info ") + address).code, 2) << address;
  }
  EXPECT_EQ(pleat("route --replica a --api-keys /nowhere/at-all").code, 2);
  EXPECT_EQ(own_errors(pleat("route --replica a --http 999.1.1.1:0")).size(), 1u);
}

}  // namespace
}  // namespace pleat::test
