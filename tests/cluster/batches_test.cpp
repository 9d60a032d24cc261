// /v1/batches before replicas made of a rule: through bad lines, full servers and disks, restarts and cancellation.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cluster/http/job_output.h"
#include "kernels/check.h"
#include "tests/cluster/kept_files.h"

namespace pleat::test {
namespace {

namespace fs = std::filesystem;

TEST_F(Files, ABatchWritesWhatTheDoorWouldAnswerAndBadLinesAreErrors) {
  std::string input = "\n" + line("one", 4, 3) + "not json\n" + line("two", 5, 2) + line("one", 6, 2);
  input +=
      R"({"custom_id": "chat", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "x"}]}})";
  input += "\n{\"custom_id\": \"bad\", \"prompt\": \"x\", \"top_p\": 2, \"max_tokens\": 1}\n";
  input += "{\"custom_id\": \"deep\", \"prompt\": " + std::string(100, '[') + std::string(100, ']') + "}\n";
  input += "{\"custom_id\": \"long\", \"prompt\": \"" + std::string(5000, 'x') + "\"}\n";
  input += R"({"custom_id": "streams", "prompt": "x", "stream": true})";
  const std::string file = keep(input);
  const json begun = batch(file);
  EXPECT_EQ(begun["status"], "validating");
  EXPECT_EQ(door->ask(kj::HttpMethod::DELETE, "/v1/files/" + file).status, 409);
  const json end = finished(begun["id"]);
  EXPECT_EQ(end["status"], "completed") << end;
  EXPECT_EQ(end["request_counts"]["total"], 9);
  const auto texts = records(end["output_file_id"]), errors = records(end["error_file_id"]);
  // The rules replica knows no ranges, so it writes "bad" too.
  EXPECT_EQ(end["request_counts"]["completed"], texts.size());
  EXPECT_EQ(end["request_counts"]["failed"], errors.size());
  EXPECT_EQ(texts.size() + errors.size(), 9u);
  EXPECT_EQ(texts.at("one")["response"]["body"]["choices"][0]["text"], ruled_text(4, 3));
  EXPECT_EQ(texts.at("one")["response"]["status_code"], 200);
  EXPECT_EQ(texts.at("two")["response"]["body"]["choices"][0]["text"], ruled_text(5, 2));
  EXPECT_EQ(errors.at("line-3")["error"]["code"], "invalid_json");
  EXPECT_EQ(errors.at("line-5")["error"]["code"], "duplicate_custom_id");
  EXPECT_EQ(errors.at("chat")["error"]["message"], "the batch is for /v1/completions");
  EXPECT_EQ(errors.at("line-8")["error"]["code"], "invalid_json");
  EXPECT_EQ(errors.at("line-9")["error"]["message"], "line 9 has more than 4096 bytes");
  EXPECT_EQ(errors.at("streams")["error"]["message"], "'stream' is not for batches");
  EXPECT_EQ(door->ask(kj::HttpMethod::DELETE, "/v1/files/" + file).status, 200);
  EXPECT_EQ(door->get("/v1/batches").parsed()["data"], json::array({end}));
}

TEST_F(Files, ALineThatNoServerCouldEverTakeIsAnErrorAndNotAskedAgain) {
  world["a"].queue_requests = world["b"].queue_requests = 3;
  world["a"].queue_tokens = world["b"].queue_tokens = 100;
  open();
  const std::string seven = R"({"custom_id": "seven", "prompt": "x", "n": 7, "max_tokens": 3})";
  const json end = finished(batch(keep(seven + "\n" + line("one", 4, 3)))["id"]);
  EXPECT_EQ(end["status"], "completed") << end;
  EXPECT_EQ(records(end["output_file_id"]).at("one")["response"]["body"]["choices"][0]["text"], ruled_text(4, 3));
  const json error = records(end["error_file_id"]).at("seven")["response"];
  EXPECT_EQ(error["status_code"], 400);
  EXPECT_EQ(error["body"]["error"]["code"], "tooLarge");
}

// The router ends in the middle and another one starts on the folder, again and again.
TEST_F(Files, ABatchGoesOnAfterEachRestartWithoutLosingOrRepeatingARecord) {
  std::string input;
  for (int i = 0; i < 60; ++i) input += line(std::to_string(i), uint64_t(i), 3 + i % 5);
  const std::string id = batch(keep(input))["id"];
  int restarts = 0;
  for (;; ++restarts) {
    ASSERT_LT(restarts, 1000);
    for (int i = 0; i < 12; ++i) {
      world.pass(10 * kj::MILLISECONDS);
      usleep(2000);
    }
    open();
    const json now = door->get("/v1/batches/" + id).parsed();
    if (now["status"] == "completed") break;
  }
  EXPECT_GT(restarts, 3);
  const json end = finished(id);
  const auto texts = records(end["output_file_id"]);
  ASSERT_EQ(texts.size(), 60u);
  for (int i = 0; i < 60; ++i)
    EXPECT_EQ(texts.at(std::to_string(i))["response"]["body"]["choices"][0]["text"],
              ruled_text(uint64_t(i), size_t(3 + i % 5)));
  EXPECT_EQ(end["request_counts"]["completed"], 60);
  EXPECT_TRUE(end["error_file_id"].is_null());
}

TEST_F(Files, ALineWhoseBodyIsNoObjectIsAnErrorAndTheOthersAreTexts) {
  std::string input = line("good", 4, 3);
  const std::vector<std::string> bodies = {"5", "null", "\"x\"", "[]"};
  for (const std::string& body : bodies)
    input += R"({"custom_id": )" + json(body).dump() + R"(, "method": "POST", "url": "/v1/completions", "body": )" +
             body + "}\n";
  const json end = finished(batch(keep(input))["id"]);
  EXPECT_EQ(end["status"], "completed") << end;
  EXPECT_EQ(records(end["output_file_id"]).size(), 1u);
  const auto errors = records(end["error_file_id"]);
  for (const std::string& body : bodies)
    EXPECT_EQ(errors.at(body)["error"]["message"], "'body' must be an object") << body;
}

// Its input goes while no router runs.
TEST_F(Files, ABatchThatCannotGoOnKeepsTheRecordsThatItHas) {
  std::string input;
  for (int i = 0; i < 40; ++i) input += line(std::to_string(i), uint64_t(i), 4);
  const std::string file = keep(input), id = batch(file)["id"];
  const auto completed = [&] { return int(door->get("/v1/batches/" + id).parsed()["request_counts"]["completed"]); };
  for (int i = 0; i < 1000 && completed() < 5; ++i) {
    usleep(1000);
    world.pass(10 * kj::MILLISECONDS);
  }
  door.reset();
  fs::remove(folder_ / file);
  open();
  const json end = finished(id);
  EXPECT_EQ(end["status"], "failed") << end;
  EXPECT_GE(records(end["output_file_id"]).size(), 5u);
}

TEST_F(Files, ABatchsMetadataIsShort) {
  const std::string file = keep(line("one", 1, 2));
  const auto status = [&](const json& metadata) {
    return door
        ->post("/v1/batches", {{"input_file_id", file},
                               {"endpoint", "/v1/completions"},
                               {"completion_window", "24h"},
                               {"metadata", metadata}})
        .status;
  };
  EXPECT_EQ(status({{std::string(64, 'n'), std::string(512, 'v')}}), 200);
  EXPECT_EQ(status({{std::string(65, 'n'), "v"}}), 400);
  EXPECT_EQ(status({{"n", std::string(513, 'v')}}), 400);
}

// The file is there, and may not be opened a second time.
TEST(JobOutput, WhatCannotBeReadIsNotCutOff) {
  const TemporaryFolder folder;
  const std::string path = folder.write("output", R"({"custom_id": "a", "response": {}, "error": null})"
                                                  "\n");
  const int next = dup(0);
  close(next);
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit one_more{rlim_t(next) + 1, limit.rlim_max};
  setrlimit(RLIMIT_NOFILE, &one_more);
  EXPECT_THROW(JobOutput(path, true), Error);
  setrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_EQ(JobOutput(path, true).held(), 1);
}

TEST_F(Files, WhatCannotBeWrittenOfABatchHasNotHappened) {
  world["a"].refuses = Refusal(rpc::Error::Code::QUEUE_FULL, "full", 100);
  const std::string id = batch(keep(line("one", 1, 2)))["id"], path = "/v1/batches/" + id;
  begun(id);
  const fs::path in_the_way = folder_ / (id + ".json.part");
  fs::create_directory(in_the_way);
  EXPECT_EQ(door->post(path + "/cancel", json::object()).status, 500);
  EXPECT_EQ(door->get(path).parsed()["status"], "in_progress");
  EXPECT_FALSE(door->get(path).parsed().contains("cancelling_at"));
  fs::remove(in_the_way);
  EXPECT_EQ(door->post(path + "/cancel", json::object()).parsed()["status"], "cancelling");
  EXPECT_EQ(finished(id)["status"], "cancelled");
}

// The router ends when it has written that the batch is at its end, but not what this is.
TEST_F(Files, ACancelledBatchEndsSoAfterARestartToo) {
  world["a"].refuses = Refusal(rpc::Error::Code::QUEUE_FULL, "full", 100);
  const std::string id = batch(keep(line("one", 1, 2)))["id"];
  world.pass(1 * kj::SECONDS);
  door->post("/v1/batches/" + id + "/cancel", json::object());
  EXPECT_EQ(finished(id)["status"], "cancelled");
  door.reset();
  const fs::path path = folder_ / (id + ".json");
  json state = json::parse(std::ifstream(path));
  state["status"] = "finalizing";
  state.erase("cancelled_at");
  std::ofstream(path) << state;
  world["a"].refuses.reset();
  open();
  const json end = finished(id);
  EXPECT_EQ(end["status"], "cancelled");
  EXPECT_EQ(end["request_counts"]["completed"], 0);
}

TEST_F(Files, ABatchWaitsForServersAndCanBeCancelled) {
  std::string input;
  for (int i = 0; i < 40; ++i) input += line(std::to_string(i), uint64_t(i), 4);
  const std::string file = keep(input);
  world["a"].refuses = Refusal(rpc::Error::Code::QUEUE_FULL, "full", 100);
  const std::string waits = batch(file)["id"];
  begun(waits);
  world.pass(5 * kj::SECONDS);
  EXPECT_EQ(door->get("/v1/batches/" + waits).parsed()["status"], "in_progress");
  EXPECT_EQ(door->get("/v1/batches/" + waits).parsed()["request_counts"]["failed"], 0);
  world["a"].refuses.reset();
  EXPECT_EQ(finished(waits)["request_counts"]["completed"], 40);
  const std::string id = batch(file)["id"];
  begun(id);
  world.pass(45 * kj::MILLISECONDS);
  EXPECT_EQ(door->post("/v1/batches/" + id + "/cancel", json::object()).parsed()["status"], "cancelling");
  const json end = finished(id);
  EXPECT_EQ(end["status"], "cancelled");
  EXPECT_LT(end["request_counts"]["completed"], 40);
  EXPECT_EQ(records(end["output_file_id"]).size(), size_t(end["request_counts"]["completed"]));
  EXPECT_EQ(door->post("/v1/batches/" + id + "/cancel", json::object()).status, 400);
  EXPECT_EQ(door->get("/v1/batches/batch_x").status, 404);
}

TEST_F(Files, ABatchThatIsWrongIsToldWhatIs) {
  const json whole = {{"input_file_id", "file-x"}, {"endpoint", "/v1/completions"}, {"completion_window", "24h"}};
  EXPECT_EQ(door->post("/v1/batches", whole).error(), "there is no file 'file-x'");
  for (const auto& [name, value] : whole.items()) {
    json body = whole;
    body.erase(name);
    EXPECT_EQ(door->post("/v1/batches", body).error(), "'" + name + "' is missing");
    body[name] = 5;
    EXPECT_EQ(door->post("/v1/batches", body).error(), "'" + name + "' must be a text");
  }
}

TEST_F(Files, ALineWithAPromptOfTheOtherEndpointIsAnError) {
  const auto record = [](const char* id, const json& body) {
    return json({{"custom_id", id}, {"url", "/v1/completions"}, {"body", body}}).dump() + "\n";
  };
  const json messages = {{{"role", "user"}, {"content", "x"}}};
  const json end = finished(batch(keep(record("both", {{"prompt", "x"}, {"messages", messages}}) +
                                       record("other", {{"messages", messages}})))["id"]);
  const auto errors = records(end["error_file_id"]);
  EXPECT_EQ(errors.at("both")["error"]["message"], "'messages' is not supported");
  EXPECT_EQ(errors.at("other")["error"]["message"], "a record for \"/v1/completions\" needs 'prompt'");
}

}  // namespace
}  // namespace pleat::test
