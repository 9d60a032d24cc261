// /v1/files and /v1/batches before replicas made of a rule, on pipes and a folder of its own.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cluster/http/job_output.h"
#include "cluster/http/multipart.h"
#include "kernels/check.h"
#include "tests/cluster/http_door.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
 protected:
  Files() {
    world["a"];
    open();
  }
  void TearDown() override {
    door.reset();
    world.pass(100 * kj::MILLISECONDS);  // the replicas see that nobody waits any more
  }
  // As a router that starts on this folder.
  void open(const ApiKeys& keys = {}) {
    door.reset();
    HttpLimits limits;
    limits.framing = {16 * 1024, 4096};
    limits.framing.file_bytes = 1 << 20;
    door = std::make_unique<Door>(world, limits, keys);
    door->gateway.keep_files(folder_);
  }

  static std::string form(const std::string& content, const std::string& purpose = "batch",
                          const std::string& name = "in.jsonl") {
    return "--xYz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" + purpose +
           "\r\n--xYz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"" + name +
           "\"\r\nContent-Type: application/octet-stream\r\n\r\n" + content + "\r\n--xYz--\r\n";
  }
  HttpAnswer send(const std::string& body, const std::string& type = "multipart/form-data; boundary=xYz") {
    return world.wait(door->start(kj::HttpMethod::POST, "/v1/files", body, "", "1.2.3.4", type));
  }
  std::string keep(const std::string& content) {
    const HttpAnswer answer = send(form(content));
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.parsed()["id"];
  }
  json batch(const std::string& file, const std::string& endpoint = "/v1/completions") {
    const HttpAnswer answer =
        door->post("/v1/batches", {{"input_file_id", file}, {"endpoint", endpoint}, {"completion_window", "24h"}});
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.parsed();
  }
  json finished(const std::string& id) {
    for (int i = 0; i < 1000; ++i) {
      const json now = door->get("/v1/batches/" + id).parsed();
      if (now["status"] == "completed" || now["status"] == "cancelled" || now["status"] == "failed") return now;
      usleep(1000);  // the disk's time is real
      world.pass(50 * kj::MILLISECONDS);
    }
    ADD_FAILURE() << "the batch does not end: " << door->get("/v1/batches/" + id).body;
    return {};
  }
  std::map<std::string, json> records(const json& id) {
    std::map<std::string, json> all;
    if (id.is_null()) return all;
    std::istringstream lines(door->get("/v1/files/" + id.get<std::string>() + "/content").body);
    for (std::string line; std::getline(lines, line);) {
      const json record = json::parse(line);
      EXPECT_TRUE(all.emplace(record["custom_id"], record).second) << "twice: " << line;
    }
    return all;
  }
  static std::string line(const std::string& id, uint64_t seed, int tokens) {
    return json({{"custom_id", id},
                 {"method", "POST"},
                 {"url", "/v1/completions"},
                 {"body", {{"prompt", "x"}, {"seed", seed}, {"max_tokens", tokens}}}})
               .dump() +
           "\n";
  }

  const std::unique_ptr<FakeWorld> world_ = std::make_unique<FakeWorld>();
  FakeWorld& world = *world_;
  const TemporaryFolder scratch_;
  const fs::path folder_ = scratch_ / "files";
  std::unique_ptr<Door> door;
};

TEST_F(Files, AreKeptListedReadAndDeletedAndOutliveTheRouter) {
  std::string content = "\r\n--xY\r\n--\n";
  for (int i = 0; i < 100'000; ++i) content += char(i * 7919 % 256);
  const HttpAnswer sent = send(form(content, "batch", "../../etc/passwd"));
  ASSERT_EQ(sent.status, 200) << sent.body;
  const json file = sent.parsed();
  const std::string id = file["id"];
  EXPECT_EQ(file["bytes"], content.size());
  EXPECT_EQ(file["filename"], "../../etc/passwd") << "words of the client, and nothing else";
  EXPECT_EQ(file["object"], "file");
  open();
  EXPECT_EQ(door->get("/v1/files/" + id).parsed(), file);
  EXPECT_EQ(door->get("/v1/files/" + id + "/content").body, content);
  EXPECT_EQ(door->get("/v1/files").parsed()["data"], json::array({file}));
  EXPECT_EQ(door->ask(kj::HttpMethod::DELETE, "/v1/files/" + id).parsed()["deleted"], true);
  EXPECT_EQ(door->get("/v1/files/" + id).status, 404);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "only the lock is left";
  for (const char* name : {"lock", "../lock", "..%2flock", ".", ""})
    EXPECT_EQ(door->get(concat("/v1/files/", name, "/content")).status, 404) << name;
}

TEST_F(Files, WrongUploadsAreSentencesAndLeaveNothing) {
  const std::string good = form("{}");
  EXPECT_EQ(send(form("{}", "fine-tune")).error(), "'purpose' must be \"batch\"");
  EXPECT_EQ(send(good.substr(0, good.size() - 12)).error(), "the body ends before its last boundary");
  EXPECT_EQ(send(good, "multipart/form-data").status, 400);
  EXPECT_EQ(send(good, "multipart/form-data; boundary=other").status, 400);
  EXPECT_EQ(send(good, "application/json").error(), "the body must be multipart/form-data");
  EXPECT_EQ(send("--xYz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xYz--\r\n").error(),
            "'file' is missing");
  EXPECT_EQ(send("--xYz\r\nA: b\r\n\r\n\r\n--xYz--\r\n").error(), "a part of the body has no name");
  EXPECT_EQ(send("--xYz\r\n" + std::string(5000, 'a')).error(), "the header of a part of the body is too large");
  EXPECT_EQ(send(form("{}", std::string(40, 'x'))).status, 400);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "only the lock is left";
  EXPECT_THROW(door->gateway.keep_files(folder_), Error) << "the folder has a router";
  door = std::make_unique<Door>(world);
  EXPECT_EQ(door->get("/v1/files").error(), "this router keeps no files; one that does is started with --files DIR");
}

TEST_F(Files, WhatAKeyHasMadeIsThereForThatKeyAlone) {
  const ApiKeys keys = ApiKeys::read(scratch_.write("keys", "first-key\nsecond-key\n"));
  open(keys);
  const auto ask = [&](const std::string& key, kj::HttpMethod method, const std::string& what,
                       const std::string& body = "", const std::string& type = "") {
    return world.wait(door->start(method, what, body, key, "1.2.3.4", type));
  };
  const HttpAnswer sent =
      ask("first-key", kj::HttpMethod::POST, "/v1/files", form(line("a", 4, 3)), "multipart/form-data; boundary=xYz");
  ASSERT_EQ(sent.status, 200) << sent.body;
  const std::string file = sent.parsed()["id"];
  const std::string order =
      json({{"input_file_id", file}, {"endpoint", "/v1/completions"}, {"completion_window", "24h"}}).dump();
  EXPECT_EQ(ask("second-key", kj::HttpMethod::POST, "/v1/batches", order).status, 400);
  const std::string batch = ask("first-key", kj::HttpMethod::POST, "/v1/batches", order).parsed()["id"];
  json end = json::object();
  for (int i = 0; i < 1000 && end.value("status", "") != "completed"; ++i) {
    usleep(1000);
    world.pass(50 * kj::MILLISECONDS);
    end = ask("first-key", kj::HttpMethod::GET, "/v1/batches/" + batch).parsed();
  }
  const std::string output = end["output_file_id"];
  for (const bool restarted : {false, true}) {
    if (restarted) open(keys);
    for (const std::string& what :
         {"/v1/files/" + file, "/v1/files/" + file + "/content", "/v1/files/" + output, "/v1/batches/" + batch}) {
      EXPECT_EQ(ask("first-key", kj::HttpMethod::GET, what).status, 200) << what;
      EXPECT_EQ(ask("second-key", kj::HttpMethod::GET, what).status, 404) << what;
    }
    EXPECT_EQ(ask("second-key", kj::HttpMethod::DELETE, "/v1/files/" + file).status, 404);
    EXPECT_EQ(ask("second-key", kj::HttpMethod::POST, "/v1/batches/" + batch + "/cancel").status, 404);
    for (const std::string what : {"/v1/files", "/v1/batches"}) {
      EXPECT_EQ(ask("first-key", kj::HttpMethod::GET, what).parsed()["data"].size(), what == "/v1/files" ? 2u : 1u);
      EXPECT_EQ(ask("second-key", kj::HttpMethod::GET, what).parsed()["data"].size(), 0u) << what;
    }
  }
  for (const auto& entry : fs::directory_iterator(folder_)) {
    std::ifstream in(entry.path());
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    EXPECT_EQ(text.find("first-key"), std::string::npos) << entry.path();
    EXPECT_TRUE(entry.path().extension() != ".json" ||
                text.find("\"" + ApiKeys::digest("first-key") + "\"") != std::string::npos);
  }
  EXPECT_EQ(ApiKeys::digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") << "FIPS 180-4";
}

TEST(Multipart, TakesABodyInPiecesOfAnySize) {
  struct Seen : Multipart::Parts {
    void begin(const std::string& name, const std::string& filename) override {
      all += '<' + name + '|' + filename + '>';
    }
    void data(std::string_view bytes) override { all += bytes; }
    std::string all;
  };
  const std::string body =
      "preamble\r\n--b\r\nContent-Disposition: form-data; filename=\"a\\\"; name=b\"; name=\"n\"\r\n\r\n\r\n--\r\n--bc"
      "\r\n--b\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n--b--\r\nepilogue";
  for (size_t piece = 1; piece <= body.size(); ++piece) {
    Seen seen;
    Multipart parts("Multipart/Form-Data; charset=x; boundary=\"b\"", seen);
    bool refused = false;
    try {
      for (size_t i = 0; i < body.size(); i += piece) parts.take(std::string_view(body).substr(i, piece));
    } catch (const Error&) {
      refused = true;
    }
    EXPECT_TRUE(refused) << "--bc begins like a boundary and does not end like one";
  }
  const std::string good = std::string(body).replace(body.find("--bc"), 4, "--xb");
  for (size_t piece = 1; piece <= good.size(); ++piece) {
    Seen seen;
    Multipart parts("Multipart/Form-Data; charset=x; boundary=\"b\"", seen);
    for (size_t i = 0; i < good.size(); i += piece) parts.take(std::string_view(good).substr(i, piece));
    EXPECT_TRUE(parts.ended());
    EXPECT_EQ(seen.all, "<n|a\"; name=b>\r\n--\r\n--xb<empty|>") << piece;
  }
}

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
    ASSERT_LT(restarts, 100);
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
  const std::string path = folder.write("output", R"({"custom_id": "a", "error": null})"
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
  world.pass(1 * kj::SECONDS);
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
  world.pass(5 * kj::SECONDS);
  EXPECT_EQ(door->get("/v1/batches/" + waits).parsed()["status"], "in_progress");
  EXPECT_EQ(door->get("/v1/batches/" + waits).parsed()["request_counts"]["failed"], 0);
  world["a"].refuses.reset();
  EXPECT_EQ(finished(waits)["request_counts"]["completed"], 40);
  const std::string id = batch(file)["id"];
  world.pass(45 * kj::MILLISECONDS);
  EXPECT_EQ(door->post("/v1/batches/" + id + "/cancel", json::object()).parsed()["status"], "cancelling");
  const json end = finished(id);
  EXPECT_EQ(end["status"], "cancelled");
  EXPECT_LT(end["request_counts"]["completed"], 40);
  EXPECT_EQ(records(end["output_file_id"]).size(), size_t(end["request_counts"]["completed"]));
  EXPECT_EQ(door->post("/v1/batches/" + id + "/cancel", json::object()).status, 400);
  EXPECT_EQ(door->get("/v1/batches/batch_x").status, 404);
  EXPECT_EQ(door->post("/v1/batches",
                       {{"input_file_id", "file-x"}, {"endpoint", "/v1/completions"}, {"completion_window", "24h"}})
                .error(),
            "there is no file 'input_file_id'");
}

}  // namespace
}  // namespace pleat::test
