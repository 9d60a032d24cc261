// `pleat serve` under mpirun and `pleat ask`, as a user runs them.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <sstream>
#include <thread>

#include "tests/cluster/program/served.h"

namespace pleat::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr const char* kPrompt = "--prompt 'The history of the' --max-tokens 20 --temperature 0.8 --seed 5";

TEST(Serve, AnswersWhatGenerateWritesAndDrainsInOrder) {
  const std::string expected = pleat(std::string("generate --quiet --model ") + model() + " " + kPrompt).out;
  for (const int ranks : {0, 2, 3}) {
    Served served(ranks);
    ASSERT_NE(served.address(), "") << served.errors();
    const Outcome text = served.ask(kPrompt);
    EXPECT_EQ(text.code, 0) << text.err;
    EXPECT_EQ(text.out, expected) << ranks << " ranks";
    const json info = json::parse(served.ask("--info --json").out);
    EXPECT_EQ(info["shards"].size(), size_t(std::max(1, ranks)));
    EXPECT_EQ(info["blueprint"]["maxPositions"], 512);
    EXPECT_EQ(json::parse(served.ask("--stats --json").out)["completed"], 1);
    const Outcome drained = served.ask("--drain");
    EXPECT_EQ(drained.out, "drained, 0 requests cut off\n") << drained.err;
    EXPECT_EQ(served.wait(), 0) << served.errors();
    EXPECT_EQ(served.ask("--stats").code, 1) << "nobody is there any more";
  }
}

TEST(Serve, AsksInJsonWithEverythingTheTextHas) {
  const Served served(0);
  const Outcome outcome = served.ask("--json --logprobs 2 --max-tokens 3 --prompt 'The history of the'");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json answer = json::parse(outcome.out);
  EXPECT_EQ(answer["prompt_tokens"], 4);
  EXPECT_EQ(answer["finish_reason"], "length");
  EXPECT_EQ(answer["tokens"].size(), 3u);
  EXPECT_EQ(answer["logprobs"][2]["best"].size(), 2u);
  const Outcome refused = served.ask("--prompt x --top-p 2");
  EXPECT_EQ(refused.code, 2);
  EXPECT_EQ(own_errors(refused),
            std::vector<std::string>{"pleat: top_p is 2, expected above 0 and at most 1 (badRequest)"});
  EXPECT_EQ(served.ask("--prompt x --chat").code, 2) << "no chat template";
  EXPECT_EQ(served.ask("").code, 2);
}

// Texts that take a while with --batch 1: one after the other.
class Texts {
 public:
  // Returns once the server has all requests.
  explicit Texts(const Served& served, size_t count = 3) : texts_(count) {
    for (Outcome& text : texts_)
      askers_.emplace_back([&] { text = served.ask("--prompt x --ignore-eos --max-tokens 250 --logprobs 0"); });
    while (json::parse(served.ask("--stats --json").out)["accepted"] < count) std::this_thread::sleep_for(1ms);
  }
  ~Texts() { wait(); }
  const std::vector<Outcome>& wait() {
    for (std::thread& asker : askers_)
      if (asker.joinable()) asker.join();
    return texts_;
  }

 private:
  std::vector<Outcome> texts_;
  std::vector<std::thread> askers_;
};

TEST(Serve, SigtermToRankZeroLetsRunningTextsFinish) {
  Served served(2, "--batch 1 --grace 200");  // on a machine that does much else, too
  ASSERT_NE(served.address(), "") << served.errors();
  const std::vector<pid_t> guardians = served.children(served.pid());
  ASSERT_EQ(guardians.size(), 2u);
  Texts texts(served);
  kill(guardians[0], SIGTERM);
  for (const Outcome& text : texts.wait()) EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(served.wait(), 0) << served.errors();
}

// mpirun passes the signal on a second later, and its own exit code is 1 then, whatever its ranks return.
TEST(Serve, SigtermToMpirunDrainsAndCutsOffAfterTheGrace) {
  Served served(2, "--batch 1 --grace 0.1");
  ASSERT_NE(served.address(), "") << served.errors();
  Texts texts(served, 16);
  kill(served.pid(), SIGTERM);
  int cut_off = 0;
  for (const Outcome& text : texts.wait()) cut_off += text.code == 1 && text.err.find("draining") != std::string::npos;
  EXPECT_GE(cut_off, 1);
  EXPECT_EQ(served.wait(), 1) << served.errors();
  EXPECT_EQ(own_errors({0, "", served.errors()}).size(), 0u) << served.errors();
}

TEST(Serve, AKilledRankEndsTheJobWithCode70) {
  for (const bool busy : {true, false}) {
    Served served(2, "--batch 1 --step-timeout 5");
    ASSERT_NE(served.address(), "") << served.errors();
    const std::vector<pid_t> ranks = served.children(served.children(served.pid()).at(1));
    ASSERT_EQ(ranks.size(), 1u);
    std::optional<Texts> texts;
    if (busy) texts.emplace(served);
    kill(ranks[0], SIGKILL);
    EXPECT_EQ(served.wait(), 70) << served.errors();
    EXPECT_NE(served.errors().find("was killed by signal 9"), std::string::npos) << served.errors();
    if (!busy) continue;
    const std::vector<Outcome>& outcomes = texts->wait();
    EXPECT_TRUE(std::any_of(outcomes.begin(), outcomes.end(), [](const Outcome& text) { return text.code == 1; }));
  }
}

double cpu_seconds(pid_t pid) {
  std::istringstream stat(shell("sed 's/.*) //' /proc/" + std::to_string(pid) + "/stat").out);
  std::string field;
  double ticks = 0;
  for (int i = 0; i < 13 && stat >> field; ++i)
    if (i >= 11) ticks += std::stod(field);
  return ticks / double(sysconf(_SC_CLK_TCK));
}

TEST(Serve, IdleRanksNeitherSpinNorTimeOut) {
  Served served(2, "--step-timeout 1");
  ASSERT_NE(served.address(), "") << served.errors();
  std::vector<pid_t> ranks;
  for (const pid_t guardian : served.children(served.pid()))
    for (const pid_t rank : served.children(guardian)) ranks.push_back(rank);
  ASSERT_EQ(ranks.size(), 2u);
  const double before = cpu_seconds(ranks[0]) + cpu_seconds(ranks[1]);
  std::this_thread::sleep_for(3s);
  // A rank that spun would have used seconds.
  EXPECT_LT(cpu_seconds(ranks[0]) + cpu_seconds(ranks[1]) - before, 0.3);
  EXPECT_EQ(served.ask("--prompt x --max-tokens 2").code, 0) << served.errors();
}

TEST(Serve, ListensOnAUnixSocketAndReplacesAStaleOne) {
  const Scratch scratch;
  const std::string listen = "unix:" + scratch.path("socket");
  {
    Served killed(0, "", listen);
    ASSERT_EQ(killed.address(), listen) << killed.errors();
  }
  Served served(0, "", listen);
  ASSERT_EQ(served.address(), listen) << served.errors();
  Served second(0, "", listen);
  EXPECT_EQ(second.wait(), 2) << "somebody listens there";
  EXPECT_EQ(served.ask("--prompt x --max-tokens 2").code, 0);
  EXPECT_EQ(served.ask("--drain").code, 0);
  EXPECT_EQ(served.wait(), 0) << served.errors();
  EXPECT_FALSE(std::filesystem::exists(scratch.path("socket")));
}

TEST(Serve, AnAddressThatCannotBeHadIsOneSentenceFromAllRanks) {
  const Served first(0);
  Served second(2, "", first.address());
  EXPECT_EQ(second.wait(), 2);
  const auto errors = own_errors({0, "", second.errors()});
  ASSERT_EQ(errors.size(), 1u) << second.errors();
  EXPECT_NE(errors[0].find(first.address()), std::string::npos);
}

}  // namespace
}  // namespace pleat::test
