// Clients that leave, ask for too much, have no key, send what is malformed, or read nothing.
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/cluster/http_door.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

TEST(Http, AClientThatLeavesEndsItsTexts) {
  for (const auto& [stream, bytes] : {std::pair(true, 0), {false, 0}, {true, 1'000'000}, {false, 1'000'000}}) {
    FakeWorld world;
    world["a"];
    Door door(world);
    {
      const json body = {{"prompt", "x"},
                         {"max_tokens", 4000},
                         {"stream", stream},
                         {"n", 3},
                         {"user", std::string(size_t(bytes), 'x')}};
      auto answer = door.start(kj::HttpMethod::POST, "/v1/completions", body.dump()).eagerlyEvaluate(nullptr);
      for (int i = 0; i < 1000 && world["a"].running < 3; ++i) {
        usleep(1000);  // a long body is read by another thread, whose time is real
        world.pass(10 * kj::MILLISECONDS);
      }
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
  const TemporaryFolder folder;
  const std::string file = folder.write("keys", "# of the tests\n\nfirst-key-123\nsecond-key-456\r\n");
  Door door(world, {}, ApiKeys::read(file));
  const std::string body = R"({"prompt": "x", "max_tokens": 2})";
  for (const char* key : {"", "wrong-key-1234", "first-key-12", "first-key-1234", "# of the tests"})
    EXPECT_EQ(door.ask(kj::HttpMethod::POST, "/v1/completions", body, key).status, 401) << key;
  for (const char* key : {"first-key-123", "second-key-456"})
    EXPECT_EQ(door.ask(kj::HttpMethod::POST, "/v1/completions", body, key).status, 200) << key;
  EXPECT_EQ(door.get("/v1/models").status, 401);
  EXPECT_EQ(door.get("/health").status, 200);
  EXPECT_EQ(world["a"].requests, 2);
  folder.write("keys", "short\n");
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

TEST(Http, WhiteSpaceBehindValuesAndExtensionsOfChunksAreNothing) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const std::string post = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
  const std::string body = R"({"prompt": "x", "max_tokens": 3, "seed": 4})";  // 43 bytes
  for (const std::string& bytes :
       {post + "Content-Length: 43 \t\r\n\r\n" + body,
        post + "Transfer-Encoding:chunked \r\n\r\n2b ; a=\"b\"\r\n" + body + "\r\n0;last\r\n\r\n"}) {
    const std::string answer = raw(world, door, bytes);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
    EXPECT_NE(answer.find(ruled_text(4, 3)), std::string::npos) << answer;
  }
}

TEST(Http, AClientOfHttp10GetsNoStream) {
  FakeWorld world;
  world["a"];
  Door door(world);
  for (const bool streams : {false, true}) {
    const std::string body = json{{"prompt", "x"}, {"max_tokens", 3}, {"stream", streams}}.dump();
    const std::string answer =
        raw(world, door, concat("POST /v1/completions HTTP/1.0\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
    EXPECT_TRUE(answer.starts_with(streams ? "HTTP/1.1 400 " : "HTTP/1.1 200 ")) << answer;
    EXPECT_EQ(answer.find("chunked"), std::string::npos) << answer;
  }
}

TEST(Http, TheNameOfAKeysSchemeIsAnyCase) {
  FakeWorld world;
  world["a"];
  const TemporaryFolder folder;
  Door door(world, {}, ApiKeys::read(folder.write("keys", "first-key-123\n")));
  const std::string get = "GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: ";
  for (const char* scheme : {"Bearer", "bearer", "BEARER"})
    EXPECT_TRUE(raw(world, door, get + scheme + " first-key-123\r\n\r\n").starts_with("HTTP/1.1 200 ")) << scheme;
  EXPECT_TRUE(raw(world, door, get + "Basic first-key-123\r\n\r\n").starts_with("HTTP/1.1 401 "));
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

// What comes back at once for a header that waits for leave to send its body, and then for the body.
std::pair<std::string, std::string> ask_for_leave(const std::string& path, const std::string& expectation) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const std::string body = R"({"prompt": "x", "max_tokens": 3, "seed": 4})";
  auto stream = door.connect();
  const auto send = [&](const std::string& bytes) {
    world.wait(stream->write(bytes.data(), bytes.size()));
    char answer[4096];
    size_t size = 0;
    for (bool more = true; more; size += more ? 1 : 0) {  // until nothing comes any more
      auto read = stream->tryRead(answer + size, 1, 1);
      world.pass(size == 0 ? 500 * kj::MILLISECONDS : 0 * kj::MILLISECONDS);
      more = read.poll(world.wait_scope) && read.wait(world.wait_scope) == 1 && size + 1 < sizeof answer;
    }
    return std::string(answer, size);
  };
  const std::string leave = send(concat("POST ", path, " HTTP/1.1\r\nHost: x\r\nExpect: ", expectation,
                                        "\r\nContent-Length: ", body.size(), "\r\n\r\n"));
  return {leave, leave.starts_with("HTTP/1.1 100 ") ? send(body) : ""};
}

TEST(Http, AClientThatWaitsForLeaveToSendABodyGetsItOrAnAnswer) {
  const auto [leave, answer] = ask_for_leave("/v1/completions", "100-Continue");
  EXPECT_EQ(leave, "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_NE(answer.find(ruled_text(4, 3)), std::string::npos) << answer;
  EXPECT_TRUE(ask_for_leave("/nowhere", "100-continue").first.starts_with("HTTP/1.1 405 "));
  EXPECT_TRUE(ask_for_leave("/v1/completions", "a miracle").first.starts_with("HTTP/1.1 417 "));
}

TEST(Http, AClientThatReadsNothingLosesItsConnectionAndItsTexts) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const std::string body = R"({"prompt": "x", "max_tokens": 400, "stream": true})";
  const std::string request =
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  auto stream = door.connect();
  world.wait(stream->write(request.data(), request.size()));
  world.pass(HttpLimits().write_timeout / 2);
  EXPECT_EQ(door.gateway.metrics.texts, 1);
  world.pass(HttpLimits().write_timeout);
  EXPECT_EQ(door.gateway.metrics.connections, 0);
  EXPECT_EQ(door.gateway.metrics.texts, 0);
  EXPECT_EQ(world["a"].running, 0u);
}

TEST(Http, AClientThatReadsALargeAnswerSlowlyButSteadilyGetsAllOfIt) {
  FakeWorld world;
  world["a"].piece_tokens = 4096;
  Door door(world);
  const std::string body = R"({"prompt": "x", "max_tokens": 4096, "n": 16})";
  const std::string request = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " +
                              std::to_string(body.size()) + "\r\n\r\n" + body;
  auto stream = door.connect();
  world.wait(stream->write(request.data(), request.size()));
  const kj::TimePoint before = world.timer.now();
  std::string answer;
  char bytes[4096];
  for (size_t size = sizeof bytes; size > 0; answer.append(bytes, size)) {
    world.pass(1 * kj::SECONDS);
    size = world.wait(stream->tryRead(bytes, 1, sizeof bytes));
  }
  EXPECT_GT(world.timer.now() - before, HttpLimits().write_timeout);
  EXPECT_EQ(json::parse(answer.substr(answer.find("\r\n\r\n")))["choices"].size(), 16u);
}

TEST(Http, AnAnswerIsUnderWayUntilItsClientHasAllOfIt) {
  FakeWorld world;
  world["a"];
  Door door(world);
  EXPECT_TRUE(door.gateway.idle());
  auto stream = door.connect();
  const auto send = [&](const std::string& bytes) {
    world.wait(stream->write(bytes.data(), bytes.size()));
    world.pass(10 * kj::MILLISECONDS);
  };
  send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{");
  EXPECT_FALSE(door.gateway.idle()) << "half of its body is there";
  send("}");
  EXPECT_FALSE(door.gateway.idle()) << "nobody has read the answer";
  EXPECT_TRUE(std::string(world.wait(stream->readAllText()).cStr()).starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(door.gateway.idle());
}

TEST(Http, AClientMayHaveTheConnectionClosedAfterTheAnswer) {
  FakeWorld world;
  world["a"];
  Door door(world);
  const kj::TimePoint before = world.timer.now();
  for (const char* request :
       {"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET /health HTTP/1.0\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nConnection: TE, close\r\nTE: trailers\r\n\r\n"})
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
