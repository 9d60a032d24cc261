// Batches of `pleat route --files`, whose router is killed and started again.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "tests/cluster/program/http_client.h"
#include "tests/cluster/program/served.h"

namespace pleat::test {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

json ask(const std::string& address, const std::string& path, const std::string& body = "",
         const std::string& type = "application/json") {
  HttpClient client(address);
  const int status = body.empty() ? client.get(path) : client.post(path, body, {}, type);
  EXPECT_EQ(status, 200) << client.body();
  return json::parse(client.body());
}

TEST(Batches, ARouterThatIsKilledGoesOnWithItsBatches) {
  const Scratch scratch;
  const Served served(0, "--threads 1");
  const std::string flags =
      "route --quiet --http 127.0.0.1:0 --replica " + served.address() + " --files " + scratch.path("files");
  auto router = std::make_unique<Background>(pleat_command(flags));
  std::string input;
  for (int i = 0; i < 80; ++i)
    input += json({{"custom_id", std::to_string(i)},
                   {"prompt", "The history of the"},
                   {"max_tokens", 30},
                   {"seed", i % 4},
                   {"temperature", 0.8},
                   {"ignore_eos", true}})
                 .dump() +
             "\n";
  const std::string form =
      "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; "
      "name=\"file\"; filename=\"x\"\r\n\r\n" +
      input + "\r\n--b--\r\n";
  const std::string file = ask(router->address(), "/v1/files", form, "multipart/form-data; boundary=b")["id"];
  const std::string id =
      ask(router->address(), "/v1/batches",
          json({{"input_file_id", file}, {"endpoint", "/v1/completions"}, {"completion_window", "24h"}}).dump())["id"];
  json now;
  int kills = 0;
  for (int i = 0; i < 3000; ++i) {
    std::this_thread::sleep_for(10ms);
    now = ask(router->address(), "/v1/batches/" + id);
    if (now["status"] == "completed") break;
    if (now["request_counts"]["completed"] < 15 * (kills + 1) || kills == 3) continue;
    kill(router->pid(), SIGKILL);
    router->wait();
    router = std::make_unique<Background>(pleat_command(flags));
    ++kills;
  }
  EXPECT_EQ(kills, 3);
  ASSERT_EQ(now["status"], "completed") << now;
  EXPECT_EQ(now["request_counts"], json({{"total", 80}, {"completed", 80}, {"failed", 0}}));
  HttpClient client(router->address());
  ASSERT_EQ(client.get("/v1/files/" + now["output_file_id"].get<std::string>() + "/content"), 200);
  std::istringstream lines(client.body());
  std::map<std::string, std::string> texts;
  for (std::string line; std::getline(lines, line);) {
    const json record = json::parse(line);
    EXPECT_TRUE(texts.emplace(record["custom_id"], record["response"]["body"]["choices"][0]["text"]).second);
  }
  ASSERT_EQ(texts.size(), 80u);
  for (int seed = 0; seed < 4; ++seed) {
    const Outcome written = pleat(
        "generate --quiet --model " + model() +
        " --prompt 'The history of the' --max-tokens 30 --temperature 0.8 --ignore-eos --seed " + std::to_string(seed));
    for (int i = seed; i < 80; i += 4)
      EXPECT_EQ(texts[std::to_string(i)] + "\n", written.out) << "what generate writes";
  }
}

}  // namespace
}  // namespace pleat::test
