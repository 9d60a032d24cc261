#pragma once
// A door with a folder of its own for files and batches, before replicas made of a rule.
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/cluster/http_door.h"
#include "tests/temporary_folder.h"

namespace pleat::test {

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
  json finished(const std::string& id) { return when(id, {"completed", "cancelled", "failed"}); }
  json begun(const std::string& id) { return when(id, {"in_progress"}); }
  json when(const std::string& id, const std::set<std::string>& statuses) {
    for (int i = 0; i < 10'000; ++i) {
      const json now = door->get("/v1/batches/" + id).parsed();
      if (statuses.contains(now["status"])) return now;
      usleep(1000);  // the disk's time is real
      world.pass(50 * kj::MILLISECONDS);
    }
    ADD_FAILURE() << "the batch stays as it is: " << door->get("/v1/batches/" + id).body;
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
  const std::filesystem::path folder_ = scratch_ / "files";
  std::unique_ptr<Door> door;
};

}  // namespace pleat::test
