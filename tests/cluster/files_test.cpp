// /v1/files before replicas made of a rule, on pipes and a folder of its own.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <set>

#include "cluster/http/multipart.h"
#include "kernels/check.h"
#include "tests/cluster/kept_files.h"

namespace pleat::test {
namespace {

namespace fs = std::filesystem;

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

TEST_F(Files, ListsComeInPages) {
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(keep(line("one", 1, 2)));
  const std::string output = finished(batch(ids[0])["id"])["output_file_id"];
  const auto seen = [&](const std::string& query) {
    std::set<std::string> seen;
    std::string after;
    for (bool more = true; more;) {
      const json page = door->get("/v1/files?" + query + "&limit=1" + after).parsed();
      EXPECT_LE(page["data"].size(), 1);
      if (page["data"].empty()) break;
      EXPECT_EQ(page["first_id"], page["data"][0]["id"]);
      EXPECT_TRUE(seen.insert(page["last_id"]).second) << page;
      after = "&after=" + page["last_id"].get<std::string>();
      more = page["has_more"];
    }
    return seen;
  };
  EXPECT_EQ(seen("purpose=batch"), std::set<std::string>(ids.begin(), ids.end()));
  EXPECT_EQ(seen("purpose=batch_output"), std::set<std::string>{output});
  EXPECT_EQ(seen("order=asc").size(), 4u);
  EXPECT_EQ(door->get("/v1/files").parsed()["has_more"], false);
  EXPECT_EQ(door->get("/v1/files?after=file-x").error(), "'after' is 'file-x', which is not in the list");
  for (const std::string query : {"limit=0", "limit=x", "limit=10001", "limit=", "order=up", "before=file-x"})
    EXPECT_EQ(door->get("/v1/files?" + query).status, 400) << query;
  for (int i = 0; i < 21; ++i) batch(ids[1]);
  const json page = door->get("/v1/batches").parsed();
  EXPECT_EQ(page["data"].size(), 20u) << "as OpenAI's";
  EXPECT_EQ(page["has_more"], true);
  EXPECT_EQ(door->get("/v1/batches?limit=100").parsed()["data"].size(), 22u);
  EXPECT_EQ(door->get("/v1/batches?purpose=batch").status, 400);
}

TEST_F(Files, AnUploadThatDripsEndsAndOneWhoseClientLeavesIsNothing) {
  const std::string body = form(std::string(100'000, 'x'));
  const std::string header =
      concat("POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xYz",
             "\r\nContent-Length: ", body.size(), "\r\n\r\n");
  auto drips = door->connect();
  drips->write(header.data(), header.size()).wait(world.wait_scope);
  auto answer = drips->readAllText().eagerlyEvaluate(nullptr);
  for (int second = 0; second < 29; ++second) {
    drips->write(&body[size_t(second)], 1).wait(world.wait_scope);
    world.pass(1 * kj::SECONDS);
  }
  EXPECT_FALSE(answer.poll(world.wait_scope));
  drips->write(&body[29], 1).wait(world.wait_scope);
  const kj::String text = world.wait(kj::mv(answer));
  EXPECT_TRUE(text.startsWith("HTTP/1.1 408")) << text.cStr();
  {
    auto leaves = door->connect();
    const std::string part = header + body.substr(0, 80'000);
    auto sent = leaves->write(part.data(), part.size()).eagerlyEvaluate(nullptr);
    world.pass(1 * kj::SECONDS);
  }
  world.pass(1 * kj::SECONDS);
  door.reset();  // the disk has done what it was to do
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "only the lock is left";
}

TEST_F(Files, AnUploadThatTheDiskCannotHoldIs500AndLeavesNothing) {
  const auto sigxfsz = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{20'000, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const HttpAnswer answer = send(form(std::string(50'000, 'x')));
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, sigxfsz);
  EXPECT_EQ(answer.status, 500) << answer.body;
  EXPECT_EQ(answer.error(), "cannot keep the file: File too large");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "only the lock is left";
  EXPECT_EQ(send(form("{}")).status, 200);
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

}  // namespace
}  // namespace pleat::test
