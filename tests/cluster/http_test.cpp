// The HTTP door before replicas made of a rule, on pipes, with a clock of its own.
#include <gtest/gtest.h>
#include <kj/compat/http.h>

#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "cluster/http/http_connection.h"
#include "tests/cluster/fake_replica.h"

namespace pleat::test {
namespace {

using nlohmann::json;

struct HttpAnswer {
  int status = 0;
  std::string body, retry_after, type;
  json parsed() const { return json::parse(body); }
  std::string error() const { return parsed()["error"]["message"]; }
};

class Door {
 public:
  explicit Door(FakeWorld& world, const HttpLimits& limits = {}, const ApiKeys& keys = {})
      : world_(world),
        replicas(world.timer, world.connect(), options_),
        gateway(world.timer, replicas, options_, limits, keys) {
    replicas.set({"a", "b"});
    world.pass(20 * kj::MILLISECONDS);
  }

  // A client's end of a new connection.
  kj::Own<kj::AsyncIoStream> connect(const std::string& client = "1.2.3.4") {
    auto pipe = kj::newTwoWayPipe();
    auto connection = kj::heap<HttpConnection>(gateway, kj::mv(pipe.ends[0]), client);
    auto over = connection->run();
    connections_.push_back(over.attach(kj::mv(connection)).eagerlyEvaluate([](kj::Exception&&) {}));
    return kj::mv(pipe.ends[1]);
  }

  HttpAnswer ask(kj::HttpMethod method, const std::string& path, const std::string& body = "",
                 const std::string& key = "") {
    return world_.wait(start(method, path, body, key));
  }
  HttpAnswer post(const std::string& path, const json& body) { return ask(kj::HttpMethod::POST, path, body.dump()); }
  HttpAnswer get(const std::string& path) { return ask(kj::HttpMethod::GET, path); }

  kj::Promise<HttpAnswer> start(kj::HttpMethod method, const std::string& path, const std::string& body,
                                const std::string& key = "", const std::string& client = "1.2.3.4") {
    auto stream = connect(client);
    auto http = kj::newHttpClient(table_, *stream);
    kj::HttpHeaders headers(table_);
    headers.set(kj::HttpHeaderId::HOST, "here");
    if (!key.empty()) headers.add("Authorization", kj::str("Bearer ", key.c_str()));
    kj::Maybe<uint64_t> size;
    if (method == kj::HttpMethod::POST) size = body.size();
    auto request = http->request(method, path, headers, size);
    auto held = kj::heap<std::string>(body);
    auto sent = method == kj::HttpMethod::POST ? request.body->write(held->data(), held->size()) : kj::READY_NOW;
    return sent.attach(kj::mv(request.body), kj::mv(held))
        .then([response = kj::mv(request.response)]() mutable { return kj::mv(response); })
        .then([](kj::HttpClient::Response&& response) {
          HttpAnswer answer;
          answer.status = int(response.statusCode);
          response.headers->forEach([&](kj::StringPtr name, kj::StringPtr value) {
            if (name == "Retry-After") answer.retry_after = value.cStr();
            if (name == "Content-Type") answer.type = value.cStr();
          });
          auto read = response.body->readAllText();
          return read.attach(kj::mv(response.body)).then([answer](kj::String text) mutable {
            answer.body.assign(text.begin(), text.end());
            return answer;
          });
        })
        .attach(kj::mv(http))
        .attach(kj::mv(stream));
  }

 private:
  FakeWorld& world_;
  RouterOptions options_;
  kj::HttpHeaderTable table_;

 public:
  ReplicaSet replicas;
  Gateway gateway;

 private:
  std::vector<kj::Promise<void>> connections_;
};

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

TEST(Http, WithNoReplicaLeftItIs503AndSaysWhenToTryAgain) {
  FakeWorld world;
  Door door(world);
  const auto answer = door.post("/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.retry_after, "1");
  EXPECT_EQ(answer.parsed()["error"]["type"], "server_error");
  EXPECT_EQ(door.get("/ready").status, 503);
  EXPECT_EQ(door.get("/health").status, 200);
}

TEST(Http, WhereAllAreBusyItIs429) {
  FakeWorld world;
  world["a"].refuses = Refusal(rpc::Error::Code::QUEUE_FULL, "full", 2300);
  Door door(world);
  const auto answer = door.post("/v1/completions", {{"prompt", "x"}, {"stream", true}});
  EXPECT_EQ(answer.status, 429) << "a stream begins when there is something to stream";
  EXPECT_EQ(answer.retry_after, "3");
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
      {"", "the body is not JSON"},
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
  EXPECT_EQ(door.ask(kj::HttpMethod::POST, "/v1/completions", std::string(100'000, '[')).status, 400);
  EXPECT_EQ(door.get("/v1/completions").status, 405);
  EXPECT_EQ(door.get("/nowhere").status, 404);
  EXPECT_EQ(world["a"].requests, 0);
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
  for (const char* line :
       {"vllm:generation_tokens_total{model_name=\"fake\"} 7\n", "vllm:prompt_tokens_total{model_name=\"fake\"} 3\n",
        "vllm:request_success_total{model_name=\"fake\",finished_reason=\"length\"} 1\n",
        "vllm:time_to_first_token_seconds_count{model_name=\"fake\"} 1\n",
        "vllm:inter_token_latency_seconds_count{model_name=\"fake\"} 6\n",
        "vllm:inter_token_latency_seconds_bucket{model_name=\"fake\",le=\"0.005\"} 0\n",
        "vllm:inter_token_latency_seconds_bucket{model_name=\"fake\",le=\"0.025\"} 6\n",
        "pleat:replica_up{model_name=\"fake\",replica=\"a\"} 1\n",
        "pleat:replica_up{model_name=\"fake\",replica=\"b\"} 0\n", "pleat:texts_running{model_name=\"fake\"} 0\n",
        "pleat:replica_generated_tokens_total{model_name=\"fake\",replica=\"a\"} 7\n"})
    EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
  const json replicas = door.get("/v1/pleat/replicas").parsed()["data"];
  EXPECT_EQ(replicas[0]["usable"], true);
  EXPECT_EQ(replicas[0]["stats"]["generatedTokens"], 7);
  EXPECT_EQ(replicas[1]["trouble"], "nobody listens there");
  EXPECT_EQ(door.get("/").type, "text/html; charset=utf-8");
}

TEST(Http, AClientThatLeavesEndsItsTexts) {
  for (const bool stream : {true, false}) {
    FakeWorld world;
    world["a"];
    Door door(world);
    {
      const json body = {{"prompt", "x"}, {"max_tokens", 4000}, {"stream", stream}, {"n", 3}};
      auto answer = door.start(kj::HttpMethod::POST, "/v1/completions", body.dump()).eagerlyEvaluate(nullptr);
      world.pass(500 * kj::MILLISECONDS);
      EXPECT_EQ(world["a"].running, 3u);
    }
    world.pass(500 * kj::MILLISECONDS);
    EXPECT_EQ(world["a"].running, 0u);
    EXPECT_EQ(door.gateway.metrics.texts, 0);
    EXPECT_EQ(door.gateway.metrics.connections, 0);
    EXPECT_EQ(door.gateway.metrics.ends["abort"], 3u);
  }
}

TEST(Http, AClientHasSoManyTextsAtATime) {
  FakeWorld world;
  world["a"];
  HttpLimits limits;
  limits.client_texts = 3;
  Door door(world, limits);
  const json two = {{"prompt", "x"}, {"max_tokens", 100}, {"n", 2}};
  auto first = door.start(kj::HttpMethod::POST, "/v1/completions", two.dump()).eagerlyEvaluate(nullptr);
  world.pass(100 * kj::MILLISECONDS);
  const auto refused = door.post("/v1/completions", two);
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.error(), "this client has 2 texts under way; at most 3 are");
  EXPECT_EQ(world.wait(door.start(kj::HttpMethod::POST, "/v1/completions", two.dump(), "", "5.6.7.8")).status, 200);
  EXPECT_EQ(world.wait(kj::mv(first)).status, 200);
  EXPECT_EQ(door.post("/v1/completions", two).status, 200);
}

TEST(Http, KeysOpenTheDoor) {
  FakeWorld world;
  world["a"];
  const std::string file = testing::TempDir() + "pleat-keys";
  std::ofstream(file) << "# of the tests\n\nfirst-key-123\nsecond-key-456\r\n";
  Door door(world, {}, ApiKeys::read(file));
  const std::string body = R"({"prompt": "x", "max_tokens": 2})";
  for (const char* key : {"", "wrong-key-1234", "first-key-12", "first-key-1234", "# of the tests"})
    EXPECT_EQ(door.ask(kj::HttpMethod::POST, "/v1/completions", body, key).status, 401) << key;
  for (const char* key : {"first-key-123", "second-key-456"})
    EXPECT_EQ(door.ask(kj::HttpMethod::POST, "/v1/completions", body, key).status, 200) << key;
  EXPECT_EQ(door.get("/v1/models").status, 401);
  EXPECT_EQ(door.get("/health").status, 200);
  EXPECT_EQ(world["a"].requests, 2);
  std::ofstream(file) << "short\n";
  EXPECT_THROW(ApiKeys::read(file), Error);
  EXPECT_THROW(ApiKeys::read(file + "-not"), Error);
}

// Bytes as they are, and everything that comes back until the connection is closed.
std::string raw(FakeWorld& world, Door& door, const std::string& bytes) {
  auto stream = door.connect();
  auto sent = stream->write(bytes.data(), bytes.size()).eagerlyEvaluate([](kj::Exception&&) {});
  const kj::String text = world.wait(stream->readAllText());
  return {text.begin(), text.end()};
}

TEST(Http, MalformedRequestsAre400AndTheConnectionEnds) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const std::string post = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n";
  const std::string body = R"({"prompt": "x"})";
  for (const std::string& bytes :
       {post + "Content-Length: -1\r\n\r\n" + body,
        post + "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
        post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + body,
        post + "Transfer-Encoding: chunked\r\n\r\n40000000\r\n" + body, std::string("nonsense\r\n\r\n")}) {
    const std::string answer = raw(world, door, bytes + "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 Bad Request\r\n")) << answer;
    EXPECT_NE(answer.find("Connection: close"), std::string::npos) << answer;
    EXPECT_EQ(answer.find("alive"), std::string::npos) << "nothing behind it is answered";
  }
  EXPECT_EQ(world["a"].requests, 0);
  EXPECT_EQ(door.gateway.metrics.connections, 0);
}

TEST(Http, PipelinedRequestsAreAnsweredInOrderUpToAMalformedOne) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const std::string completion = R"({"prompt": "x", "max_tokens": 3, "seed": 4})";
  const std::string answers = raw(
      world, door,
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(completion.size()) + "\r\n\r\n" +
          completion + "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n");
  const size_t text = answers.find(ruled_text(4, 3)), alive = answers.find("alive"), bad = answers.find("400 Bad");
  EXPECT_LT(text, alive) << answers;
  EXPECT_LT(alive, bad) << answers;
  EXPECT_NE(bad, std::string::npos) << answers;
}

TEST(Http, AClientMayHaveTheConnectionClosedAfterTheAnswer) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const kj::TimePoint before = world.timer.now();
  for (const char* request :
       {"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET /health HTTP/1.0\r\n\r\n"})
    EXPECT_NE(raw(world, door, request).find("Connection: close"), std::string::npos);
  EXPECT_LE(world.timer.now() - before, 1 * kj::SECONDS);
}

TEST(Http, AnIdleConnectionIsClosed) {
  FakeWorld world;
  world["a"];
  Door door(world);
  EXPECT_EQ(raw(world, door, ""), "") << "says nothing at all";
  const kj::TimePoint before = world.timer.now();
  const std::string answer = raw(world, door, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  EXPECT_GE(world.timer.now() - before, HttpLimits().idle_timeout);
  EXPECT_LE(world.timer.now() - before, HttpLimits().idle_timeout + 1 * kj::SECONDS);
  const std::string slow = raw(world, door, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
  EXPECT_TRUE(slow.starts_with("HTTP/1.1 408")) << slow;
}

TEST(Http, PagesOfOtherSitesMayNotAsk) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const auto from = [&](const std::string& origin) {
    return raw(world, door, "GET /v1/models HTTP/1.1\r\nHost: here:8000\r\nOrigin: " + origin + "\r\n\r\n")
        .substr(9, 3);
  };
  EXPECT_EQ(from("http://here:8000"), "200");
  EXPECT_EQ(from("https://here:8000"), "200");
  EXPECT_EQ(from("http://evil.example"), "403");
  EXPECT_EQ(from("null"), "403");
}

}  // namespace
}  // namespace pleat::test
