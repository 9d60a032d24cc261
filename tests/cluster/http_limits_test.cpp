// Requests that cannot be served: which status says so.
#include <gtest/gtest.h>

#include "tests/cluster/http_door.h"

namespace pleat::test {
namespace {

TEST(HttpLimits, WithNoReplicaLeftItIs503AndSaysWhenToTryAgain) {
  FakeWorld world;
  Door door(world);
  const auto answer = door.post("/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.retry_after, "1");
  EXPECT_EQ(answer.parsed()["error"]["type"], "server_error");
  EXPECT_EQ(answer.parsed()["error"]["code"], "unavailable");
  EXPECT_EQ(door.get("/ready").status, 503);
  EXPECT_EQ(door.get("/health").status, 200);
}

TEST(HttpLimits, WhereAllAreBusyItIs429) {
  FakeWorld world;
  world["a"].refuses = Refusal(rpc::Error::Code::QUEUE_FULL, "full", 2300);
  Door door(world);
  const auto answer = door.post("/v1/completions", {{"prompt", "x"}, {"stream", true}});
  EXPECT_EQ(answer.status, 429) << "a stream begins when there is something to stream";
  EXPECT_EQ(answer.retry_after, "3");
}

TEST(HttpLimits, ATextThatNoModelCanWriteIs500) {
  FakeWorld world;
  world["a"].refuses = Refusal(rpc::Error::Code::NOT_FINITE, "no numbers");
  Door door(world);
  const auto answer = door.post("/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.parsed()["error"]["code"], "notFinite");
  EXPECT_EQ(answer.parsed()["error"]["message"], "no numbers");
}

// How many fit at a time the servers alone know: they count a text prompt's tokens.
TEST(HttpLimits, TextsOfARequestTakeTheRoomOfThoseThatHaveEnded) {
  FakeWorld world;
  world["a"].takes = 1;
  world["b"].takes = 0;
  Door door(world);
  const HttpAnswer answer = door.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", 4}, {"n", 3}, {"seed", 7}});
  ASSERT_EQ(answer.status, 200) << answer.body;
  const json texts = answer.parsed()["choices"];
  ASSERT_EQ(texts.size(), 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(texts[i]["text"], ruled_text(7 + i, 4));

  world["a"].takes = 0;
  EXPECT_EQ(door.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", 4}, {"n", 3}}).status, 429)
      << "others have all the room";
}

TEST(HttpLimits, MoreTextsThanAClientMayEverHaveAre400) {
  FakeWorld world;
  world["a"];
  HttpLimits limits;
  limits.client_texts = 3;
  Door door(world, limits);
  const auto answer = door.post("/v1/completions", {{"prompt", "x"}, {"n", 4}});
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.error(), "the request asks for 4 texts; a client may have 3 under way");
  EXPECT_EQ(answer.parsed()["error"]["code"], "tooLarge");
  EXPECT_EQ(door.post("/v1/completions", {{"prompt", "x"}, {"n", 3}, {"max_tokens", 2}}).status, 200);
}

TEST(HttpLimits, TextsThatNoQueuesCouldEverHoldAre400) {
  FakeWorld world;
  for (const char* address : {"a", "b"}) {
    world[address].queue_requests = 3;
    world[address].queue_tokens = 100;
  }
  Door door(world);
  const auto status = [&](const json& prompt, int n, int max_tokens) {
    return door.post("/v1/completions", {{"prompt", prompt}, {"n", n}, {"max_tokens", max_tokens}}).status;
  };
  const auto expect_bounds = [&] {
    EXPECT_EQ(status("x", 6, 10), 200);
    EXPECT_EQ(status("x", 7, 10), 400) << "requests";
    EXPECT_EQ(status("x", 4, 50), 200);
    EXPECT_EQ(status("x", 5, 50), 400) << "tokens";
    EXPECT_EQ(status("x", 2, 300), 200) << "a queue holds any one text";
    EXPECT_EQ(status("x", 3, 300), 400);
    EXPECT_EQ(status(std::vector<int>(40, 1), 4, 10), 200);
    EXPECT_EQ(status(std::vector<int>(41, 1), 3, 10), 400) << "tokens of the prompt";
    EXPECT_EQ(status({std::vector<int>(41, 1), std::vector<int>(4, 1)}, 3, 10), 200) << "of the shortest prompt";
  };
  expect_bounds();
  world["b"].silent = true;
  world.kill("b");
  world.pass(100 * kj::MILLISECONDS);
  ASSERT_FALSE(door.replicas.all()[1]->usable());
  expect_bounds();  // one that is away may come back
  door.replicas.set({"a", "c"});
  EXPECT_EQ(status("x", 16, 10), 200) << "nobody knows what c takes";
  world["d"].queue_requests = 3;
  world["d"].queue_tokens = 2 * 512;
  world["d"].pace = 1 * kj::MILLISECONDS;
  world["e"].queue_requests = 9;
  world["e"].queue_requests_of_one = 2;
  world["e"].queue_tokens = 1000;
  door.replicas.set({"d"});
  world.pass(100 * kj::MILLISECONDS);
  EXPECT_EQ(status("x", 2, 600), 200) << "none is longer than the model's context";
  EXPECT_EQ(status("x", 3, 600), 400);
  door.replicas.set({"e"});
  world.pass(100 * kj::MILLISECONDS);
  EXPECT_EQ(status("x", 2, 10), 200);
  EXPECT_EQ(status("x", 3, 10), 400) << "the router is one client";
}

}  // namespace
}  // namespace pleat::test
