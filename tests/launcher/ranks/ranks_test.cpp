// Ranks as real processes under the real mpirun: what holds when one of them dies, stops or leaves.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include "tests/temporary_folder.h"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// One mpirun of rank_victim, its output in files.
class Job {
 public:
  Job(int ranks, const std::string& mode, std::chrono::milliseconds timeout, std::vector<std::string> flags = {}) {
    mpirun_ = fork();
    if (mpirun_ == 0) {
      redirect("out", STDOUT_FILENO);
      redirect("err", STDERR_FILENO);
      setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
      setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
      setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
      std::vector<std::string> words = {"mpirun", "-np", std::to_string(ranks), "--bind-to", "none"};
      words.insert(words.end(), flags.begin(), flags.end());
      for (const std::string& word : {std::string(PLEAT_RANK_VICTIM), mode, std::to_string(timeout.count())})
        words.push_back(word);
      std::vector<char*> arguments;
      for (std::string& word : words) arguments.push_back(word.data());
      arguments.push_back(nullptr);
      execvp("mpirun", arguments.data());
      _exit(127);
    }
  }

  ~Job() {
    if (mpirun_ > 0) {
      kill(mpirun_, SIGKILL);
      waitpid(mpirun_, nullptr, 0);
    }
  }

  // Pid of a rank, once it runs; 0 if it doesn't in time.
  pid_t pid_of(int rank) {
    const std::regex line("rank " + std::to_string(rank) + " pid (\\d+) runs");
    for (const auto start = Clock::now(); Clock::now() - start < 15s; std::this_thread::sleep_for(5ms)) {
      std::smatch match;
      const std::string text = output();
      if (std::regex_search(text, match, line)) return std::stoi(match[1]);
    }
    return 0;
  }

  pid_t pid() const { return mpirun_; }

  void send(int signal) { kill(mpirun_, signal); }

  // mpirun's exit code, -1 if it has not ended in time.
  int wait(std::chrono::milliseconds patience) {
    for (const auto start = Clock::now(); Clock::now() - start < patience; std::this_thread::sleep_for(5ms)) {
      int status = 0;
      if (waitpid(mpirun_, &status, WNOHANG) == mpirun_) {
        mpirun_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
    }
    return -1;
  }

  std::string output() const { return read("out"); }
  std::string errors() const { return read("err"); }

  std::vector<std::string> our_lines() const {
    std::vector<std::string> lines;
    std::istringstream text(errors());
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with("pleat:")) lines.push_back(line);
    }
    return lines;
  }

 private:
  void redirect(const char* name, int to) { dup2(open((folder_ / name).c_str(), O_CREAT | O_WRONLY, 0600), to); }
  std::string read(const char* name) const {
    std::ifstream file(folder_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  pleat::test::TemporaryFolder folder_;
  pid_t mpirun_ = 0;
};

bool has_mpirun() { return std::system("command -v mpirun > /dev/null") == 0; }

class Ranks : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_mpirun()) GTEST_SKIP() << "mpirun is not installed";
  }

  static void expect_one_line(const Job& job, const std::string& pattern) {
    const std::vector<std::string> lines = job.our_lines();
    ASSERT_EQ(lines.size(), 1u) << job.errors();
    EXPECT_TRUE(std::regex_search(lines[0], std::regex(pattern))) << lines[0];
  }

  // A killed process stays visible for a moment, until its parent, or init in its place, has taken its exit code.
  static bool is_gone(pid_t pid) {
    for (int i = 0; i < 60 && kill(pid, 0) == 0; ++i) std::this_thread::sleep_for(50ms);
    return kill(pid, 0) != 0;
  }
};

constexpr auto kDeadline = 1500ms;
constexpr auto kInTime = kDeadline + 15s;  // on a busy machine mpirun takes its time to end

TEST_F(Ranks, EndInOrderWithTheSameBitsForEveryNumberOfRanks) {
  for (const int ranks : {1, 2, 3, 5}) {
    Job job(ranks, "bits", 20s);
    EXPECT_EQ(job.wait(30s), 0) << job.errors();
    EXPECT_TRUE(job.our_lines().empty()) << job.errors();
  }
}

TEST_F(Ranks, HaveTheSameBitsWhenTheySendMessagesBetweenHosts) {
  for (const int ranks : {2, 3}) {
    Job job(ranks, "messages-bits", 20s);
    EXPECT_EQ(job.wait(30s), 0) << job.errors();
  }
}

TEST_F(Ranks, KnowTheirLauncherBehindAWrapper) {
  Job job(2, "launcher", 10s, {"sh", "-c", "\"$0\" \"$@\"; exit $?"});
  const std::string line = "launcher " + std::to_string(job.pid()) + "\n";
  ASSERT_EQ(job.wait(20s), 0) << job.errors();
  EXPECT_EQ(job.output(), line + line);
}

TEST_F(Ranks, AKilledRankEndsTheJobAndItsGuardianNamesIt) {
  Job job(3, "loop", 20s);
  const pid_t victim = job.pid_of(1), other = job.pid_of(2);
  ASSERT_TRUE(victim && other) << job.errors();
  kill(victim, SIGKILL);
  EXPECT_EQ(job.wait(kInTime), 70);
  expect_one_line(job, "pleat: rank 1 \\(host .*, pid " + std::to_string(victim) +
                           "\\) was killed by signal 9 \\(Killed\\) in step \\d+, layer 3, (after )?collective 'ffn'");
  EXPECT_TRUE(is_gone(other));
}

TEST_F(Ranks, AStoppedRankIsLateAndOneOfTheOthersNamesIt) {
  for (const int late : {1, 0}) {
    Job job(3, "loop", kDeadline);
    const pid_t victim = job.pid_of(late);
    ASSERT_TRUE(victim && job.pid_of(2)) << job.errors();
    kill(victim, SIGSTOP);
    EXPECT_EQ(job.wait(kInTime), 70);
    expect_one_line(
        job, "pleat: rank " + std::to_string(late) + " \\(host .*, pid " + std::to_string(victim) +
                 "\\) is late: last seen in step \\d+, layer 3, .*collective 'ffn'.*; rank \\d waited 1\\.[5-9] s "
                 "in step \\d+, layer 3, collective 'ffn' \\(\\d+ bytes\\)");
    EXPECT_TRUE(is_gone(victim));
  }
}

// As Slurm suspends a job: the first rank to go on must not take the others for late.
TEST_F(Ranks, AJobThatIsStoppedAsAWholeGoesOn) {
  Job job(2, "loop", kDeadline);
  const pid_t first = job.pid_of(0), second = job.pid_of(1);
  ASSERT_TRUE(first && second) << job.errors();
  kill(first, SIGSTOP);
  std::this_thread::sleep_for(100ms);  // the other one waits for it
  kill(second, SIGSTOP);
  std::this_thread::sleep_for(2 * kDeadline);
  kill(second, SIGCONT);
  std::this_thread::sleep_for(100ms);
  kill(first, SIGCONT);
  EXPECT_EQ(job.wait(kDeadline), -1) << job.errors();
  EXPECT_TRUE(job.our_lines().empty()) << job.errors();
}

TEST_F(Ranks, AStoppedRankIsNamedBetweenHostsToo) {
  Job job(2, "messages-loop", kDeadline);
  const pid_t victim = job.pid_of(1);
  ASSERT_TRUE(victim) << job.errors();
  kill(victim, SIGSTOP);
  EXPECT_EQ(job.wait(kInTime), 70);
  expect_one_line(job, "pleat: rank 1 \\(host .*\\) is late");
}

// Two of mpirun's daemons on this host, whose ranks take each other for another host's.
TEST_F(Ranks, OfAnotherHostMayTakeLongerToLoad) {
  const pleat::test::TemporaryFolder folder;
  const std::filesystem::path shell =
      folder.write("shell", "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nshift\nexec sh -c \"$*\"\n");
  std::filesystem::permissions(shell, std::filesystem::perms::owner_all);
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  Job job(2, "loads", kDeadline,
          {"--mca", "plm_rsh_agent", shell, "--mca", "btl_tcp_if_include", "lo", "--host",
           std::string(host) + ":1,elsewhere:1"});
  EXPECT_EQ(job.wait(30s), 0) << job.errors();
}

TEST_F(Ranks, ARankThatExitsInTheMiddleEndsTheJob) {
  for (const int code : {0, 3}) {
    Job job(2, "exit" + std::to_string(code), 20s);
    EXPECT_EQ(job.wait(10s), 70);
    expect_one_line(job, "pleat: rank 1 .* exited with code " + std::to_string(code) +
                             " before its end, in step 100, layer 3, after collective 'ffn'");
  }
  Job job(2, "exit0-loading", 20s);
  EXPECT_EQ(job.wait(10s), 70);
  expect_one_line(job, "pleat: rank 1 .* exited with code 0 before its end, while loading");
}

TEST_F(Ranks, AnErrorOfOneRankKeepsItsExitCode) {
  Job job(2, "invalid", 20s);
  EXPECT_EQ(job.wait(10s), 2);
  expect_one_line(job, "pleat: line 7 is not JSON");
}

TEST_F(Ranks, ARankThatNeverJoinsEndsTheJob) {
  Job job(3, "never-joins", 100ms);
  EXPECT_EQ(job.wait(10s + 100ms + 2s), 70);
  expect_one_line(job, "pleat: rank 0 .* waited 10.1 s for the other ranks to start");
}

TEST_F(Ranks, WaitForARankThatIsIdleButAlive) {
  Job job(2, "idle", 1000ms);
  EXPECT_EQ(job.wait(15s), 0) << job.errors();
}

TEST_F(Ranks, CheckThemselvesWithinFiveSeconds) {
  Job job(2, "check", 20s);
  EXPECT_EQ(job.wait(5s), 0) << job.errors();
  EXPECT_NE(job.output().find("the same bits as one rank"), std::string::npos) << job.output();
  EXPECT_NE(job.output().find("16 KB"), std::string::npos) << job.output();
  EXPECT_TRUE(std::regex_search(job.errors(), std::regex("preflight: 2 ranks on .*same bits as one rank")))
      << job.errors();
  EXPECT_TRUE(job.our_lines().empty()) << job.errors();
}

TEST_F(Ranks, SayNothingWhenTheJobIsAskedToEnd) {
  Job job(2, "loop", 20s);
  const pid_t rank = job.pid_of(1);
  ASSERT_TRUE(rank) << job.errors();
  job.send(SIGTERM);
  EXPECT_GT(job.wait(5s), 0);
  EXPECT_TRUE(job.our_lines().empty()) << job.errors();
  EXPECT_TRUE(is_gone(rank));
}

}  // namespace
