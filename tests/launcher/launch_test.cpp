// `pleat launch`: what it calls, and jobs that fail, end and are asked to end under it.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "kernels/check.h"
#include "launcher/bootstrap.h"
#include "launcher/launched.h"
#include "launcher/mpirun_command.h"
#include "parallel/cores.h"
#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

std::string line_of(const LaunchOptions& options, const Surroundings& around, bool again = false) {
  std::string line;
  for (const std::string& word : mpirun_command(options, around, again).words) line += word + " ";
  return line;
}

Surroundings eight_cores() { return {"/bin/pleat", 8, 8, false, {}}; }

TEST(MpirunCommand, GivesEachRankOfThisHostItsShareOfTheCores) {
  LaunchOptions options;
  options.command = {"serve", "--model", "m"};
  options.ranks = 3;
  EXPECT_EQ(line_of(options, eight_cores()),
            "mpirun --quiet -np 3 --map-by slot:PE=2 --bind-to core /bin/pleat serve --model m ");
  options.ranks = 9;
  EXPECT_EQ(line_of(options, eight_cores()),
            "mpirun --quiet -np 9 --bind-to none --oversubscribe /bin/pleat serve --model m ");
}

TEST(MpirunCommand, TakesASlurmAllocationUnlessHostsAreNamed) {
  const Scratch scratch;
  Surroundings around = eight_cores();
  around.environment = {{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "16"}, {"SLURM_CPUS_PER_TASK", "4"}};
  LaunchOptions options;
  options.command = {"check"};
  EXPECT_EQ(line_of(options, around), "mpirun --quiet -np 16 --map-by slot:PE=4 --bind-to core /bin/pleat check ");
  options.ranks = 2;
  options.hosts = scratch.write("hosts", "n1 slots=2\n");
  EXPECT_EQ(line_of(options, around), "mpirun --quiet -np 2 --hostfile " + options.hosts +
                                          " --bind-to none -x PLEAT_SHARE_CORES /bin/pleat check ");
  EXPECT_EQ(mpirun_command(options, around, false).environment.at("PLEAT_SHARE_CORES"), "1");
}

TEST(MpirunCommand, BindsASlurmTaskToWholeCoresWhereItsCpusAreHardwareThreads) {
  Surroundings around = eight_cores();
  around.hardware_threads = 16;
  around.environment = {{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "2"}, {"SLURM_CPUS_PER_TASK", "8"}};
  LaunchOptions options;
  options.command = {"check"};
  EXPECT_EQ(line_of(options, around), "mpirun --quiet -np 2 --map-by slot:PE=4 --bind-to core /bin/pleat check ");
  around.environment["SLURM_CPUS_PER_TASK"] = "1";
  EXPECT_EQ(line_of(options, around), "mpirun --quiet -np 2 --bind-to none /bin/pleat check ");
}

TEST(MpirunCommand, SetsInterfaceAndRootEnvironment) {
  LaunchOptions options;
  options.command = {"check"};
  options.ranks = 8;
  Surroundings around = eight_cores();
  EXPECT_EQ(mpirun_command(options, around, false).environment.count("OMPI_ALLOW_RUN_AS_ROOT"), 0u);
  around.root = true;
  around.environment["NCCL_DEBUG"] = "INFO";
  options.interface = "eth1";
  const MpirunCommand named = mpirun_command(options, around, false);
  EXPECT_EQ(named.environment.at("OMPI_ALLOW_RUN_AS_ROOT"), "1");
  EXPECT_EQ(named.environment.at("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1");
  EXPECT_EQ(named.environment.at("NCCL_SOCKET_IFNAME"), "eth1");
  EXPECT_EQ(line_of(options, around),
            "mpirun --quiet -np 8 --map-by slot:PE=1 --bind-to core --mca btl_tcp_if_include eth1 --mca "
            "oob_tcp_if_include eth1 -x NCCL_DEBUG -x NCCL_SOCKET_IFNAME /bin/pleat check ");
  options.interface = "10.0.0.0/8";
  EXPECT_EQ(mpirun_command(options, around, false).environment.count("NCCL_SOCKET_IFNAME"), 0u);
}

TEST(MpirunCommand, TakesTheChoiceOfDevicesToOtherHostsButFromSlurm) {
  LaunchOptions options;
  options.command = {"check"};
  options.ranks = 8;
  const Scratch scratch;
  options.hosts = scratch.write("hosts", "n1 slots=8\n");
  Surroundings around = eight_cores();
  around.environment["CUDA_VISIBLE_DEVICES"] = "2,3";
  EXPECT_NE(line_of(options, around).find(" -x CUDA_VISIBLE_DEVICES "), std::string::npos) << line_of(options, around);
  around.environment["SLURM_JOB_ID"] = "1";
  EXPECT_EQ(line_of(options, around).find("CUDA_VISIBLE_DEVICES"), std::string::npos);
}

TEST(MpirunCommand, ABatchJobThatIsStartedAgainResumes) {
  LaunchOptions options;
  options.ranks = 1;
  options.command = {"generate", "--input", "a", "--output=b"};
  EXPECT_EQ(line_of(options, eight_cores(), true), line_of(options, eight_cores()) + "--resume ");
  options.command.push_back("--resume");
  EXPECT_EQ(line_of(options, eight_cores(), true), line_of(options, eight_cores()));
  options.command = {"serve"};
  EXPECT_EQ(line_of(options, eight_cores(), true), line_of(options, eight_cores()));
}

TEST(MpirunCommand, ItsLineCanBePastedIntoAShell) {
  EXPECT_EQ(shell_line({"mpirun", "-np", "2", "it's", "a b", "", "$x"}), "mpirun -np 2 'it'\\''s' 'a b' '' '$x'");
}

TEST(MpirunCommand, RefusesWhatCannotBeRun) {
  LaunchOptions options;
  options.command = {"serve"};
  EXPECT_THROW(mpirun_command(options, eight_cores(), false), Error) << "no number of ranks";
  options.ranks = 2;
  const Scratch scratch;
  for (const std::string& hosts : {std::string("/no/such/file"), scratch.write("hosts", "# none\n\n")}) {
    options.hosts = hosts;
    EXPECT_THROW(mpirun_command(options, eight_cores(), false), Error) << hosts;
  }
  options.hosts.clear();
  for (const char* alone : {"fold", "launch", "route", "inspect", "-x"}) {
    options.command = {alone};
    EXPECT_THROW(mpirun_command(options, eight_cores(), false), Error) << alone;
  }
}

TEST(FairThreads, AreAShareOfTheJobsCoresWhetherRanksAreBoundOrNot) {
  EXPECT_EQ(fair_threads(8, 8, 4), 2) << "all have the same cores, of a host or of a container";
  EXPECT_EQ(fair_threads(8, 2, 4), 2) << "each has its own";
  EXPECT_EQ(fair_threads(8, 1, 4), 1);
  EXPECT_EQ(fair_threads(64, 32, 4), 16) << "two to a socket";
  EXPECT_EQ(fair_threads(2, 2, 5), 1) << "more ranks than cores";
  EXPECT_EQ(fair_threads(8, 0, 1), 1) << "its own are not known";
}

TEST(LaunchedRank, SlurmsListsOfTasksSayHowManyANodeHas) {
  for (const auto& [list, tasks] :
       {std::pair{"2(x3),1", std::vector<int>{2, 2, 2, 1}}, {"1,3", {1, 3}}, {"4", {4}}, {"", {1}}})
    for (size_t node = 0; node < tasks.size(); ++node)
      EXPECT_EQ(tasks_of_node(list, int(node)), tasks[node]) << list << ", " << node;
}

// A launch in the background, its events in a file.
class Launched {
 public:
  Launched(const Scratch& scratch, const std::string& arguments) : scratch_(scratch) {
    const std::string line = "exec " + pleat_command("launch --json " + arguments) + " >'" + scratch.path("out") +
                             "' 2>'" + scratch.path("err") + "' </dev/null";
    pid_ = fork();
    if (pid_ == 0) {
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
  }
  ~Launched() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
  }
  Launched(const Launched&) = delete;

  pid_t pid() const { return pid_; }

  std::vector<json> events(const std::string& name = "") const {
    std::vector<json> all;
    for (std::istringstream in(scratch_.read("err")); !in.eof();) {
      std::string line;
      std::getline(in, line);
      if (line.rfind("{\"time\"", 0) != 0) continue;
      const json event = json::parse(line, nullptr, false);
      if (!event.is_discarded() && (name.empty() || event["event"] == name)) all.push_back(event);
    }
    return all;
  }

  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  const Scratch& scratch_;
  pid_t pid_;
};

template <class Condition>
bool comes_true(const Condition& condition) {
  for (int i = 0; i < 600; ++i, std::this_thread::sleep_for(50ms))
    if (condition()) return true;
  return false;
}

// The processes below `pid`, parents first.
std::vector<pid_t> descendants(pid_t pid) {
  std::vector<pid_t> all = {pid};
  for (size_t i = 0; i < all.size(); ++i) {
    std::ifstream children("/proc/" + std::to_string(all[i]) + "/task/" + std::to_string(all[i]) + "/children");
    for (pid_t child; children >> child;) all.push_back(child);
  }
  all.erase(all.begin());
  return all;
}

std::string requests(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += json{{"custom_id", "r" + std::to_string(i)},
                 {"prompt", "Chapter"},
                 {"max_tokens", 40 + i % 7},
                 {"temperature", 0.8},
                 {"seed", i}}
                .dump() +
            "\n";
  return text;
}

TEST(Launch, ABatchJobWhoseRankIsKilledIsStartedAgainAndLosesNothing) {
  const Scratch scratch;
  const std::string input = scratch.write("in.jsonl", requests(30));
  const std::string job = "generate --model " + model() + " --batch 4 --quiet --input " + input + " --output ";
  ASSERT_EQ(pleat(job + scratch.path("reference")).code, 0);

  Launched launched(scratch, "-n 2 -- " + job + scratch.path("output") + " --threads 1");
  ASSERT_TRUE(comes_true([&] { return scratch.lines("output").size() >= 5; })) << scratch.read("err");
  const std::vector<pid_t> processes = descendants(launched.pid());
  ASSERT_EQ(processes.size(), 5u) << "mpirun, two guardians, two ranks";
  kill(processes[4], SIGKILL);
  EXPECT_EQ(launched.wait(), 0) << scratch.read("err");
  EXPECT_EQ(scratch.lines("output"), scratch.lines("reference"));
  const std::vector<json> stops = launched.events("stop");
  ASSERT_EQ(stops.size(), 2u) << scratch.read("err");
  EXPECT_EQ(stops[0]["code"], 70);
  EXPECT_NE(stops[0]["cause"].get<std::string>().find("was killed by signal 9 (Killed)"), std::string::npos)
      << stops[0];
  EXPECT_EQ(stops[1]["cause"], "done");
  ASSERT_EQ(launched.events("restart").size(), 1u);
}

TEST(Launch, ASignalDrainsAServerWhoseExitCodeIsZero) {
  for (const int signal : {SIGTERM, SIGQUIT, SIGUSR1}) {
    const Scratch scratch;
    Launched launched(scratch, "-n 2 -- serve --model " + model() + " --threads 1 --listen unix:" + scratch.path("s"));
    ASSERT_TRUE(comes_true([&] { return scratch.read("out").find("listening") != std::string::npos; }))
        << scratch.read("err");
    kill(launched.pid(), signal);
    EXPECT_EQ(launched.wait(), 0) << scratch.read("err");
    ASSERT_EQ(launched.events("signal").size(), 1u) << signal;
    EXPECT_EQ(launched.events("signal")[0]["signal"], signal);
    EXPECT_EQ(launched.events("start").size(), 1u);
  }
}

TEST(Launch, RanksOnTheHostsOfAFileShareTheirHostsCores) {
  const Scratch scratch;
  const std::string hosts = scratch.write("hosts", "localhost slots=2\n");
  Launched launched(scratch, "-n 2 --hosts " + hosts + " -- serve --model " + model() +
                                 " --threads 1 --listen unix:" + scratch.path("s"));
  ASSERT_TRUE(comes_true([&] { return scratch.read("out").find("listening") != std::string::npos; }))
      << scratch.read("err");
  const std::vector<pid_t> processes = descendants(launched.pid());
  ASSERT_EQ(processes.size(), 5u) << "mpirun, two guardians, two ranks";
  const CoreSet first = cores_of_process(processes[3]), second = cores_of_process(processes[4]);
  const CoreSet all = cores_of_process(0);
  EXPECT_EQ(first | second, all);
  EXPECT_TRUE((first & second).none() || whole_cores(all).size() == 1) << first << "\n" << second;
  kill(launched.pid(), SIGTERM);
  EXPECT_EQ(launched.wait(), 0) << scratch.read("err");
}

TEST(Launch, WrongInputIsNotTriedAgainAndRepeatedFailureIsGivenUp) {
  const Scratch scratch;
  Launched wrong(scratch, "-n 2 -- generate --model /no/such/model --prompt x");
  EXPECT_EQ(wrong.wait(), 2) << scratch.read("err");
  EXPECT_EQ(wrong.events("start").size(), 1u);
  EXPECT_EQ(wrong.events("stop")[0]["cause"], "there is no model folder or GGUF file '/no/such/model'");

  const Scratch full;
  const std::string input = full.write("in.jsonl", requests(1));
  Launched failing(full,
                   "-n 1 --restarts 0 -- generate --model " + model() + " --input " + input + " --output /dev/full");
  EXPECT_EQ(failing.wait(), 1) << full.read("err");
  ASSERT_EQ(failing.events("give up").size(), 1u);
  EXPECT_EQ(failing.events("give up")[0]["failures"], 1);
  EXPECT_EQ(failing.events("start").size(), 1u);

  Launched device(full, "-n 1 -- generate --model " + model() + " --input " + input + " --output /dev/full --resume");
  EXPECT_EQ(device.wait(), 2) << full.read("err");
}

// A job that fails before it looks at its output has none of its own to go on with.
TEST(Launch, AnotherJobsOutputIsNotResumed) {
  const Scratch scratch;
  const std::string input = scratch.write("in.jsonl", requests(1));
  const std::string foreign = "{\"custom_id\": \"r0\", \"response\": {}, \"error\": null}\n";
  const std::string output = scratch.write("out.jsonl", foreign);
  const std::string mpirun = scratch.write("mpirun", "#!/bin/sh\n[ -e '" + scratch.path("once") +
                                                         "' ] && PATH=${PATH#*:} exec mpirun \"$@\"\ntouch '" +
                                                         scratch.path("once") + "'; exit 1\n");
  std::filesystem::permissions(mpirun, std::filesystem::perms::owner_all);
  const Outcome outcome = shell(
      "PATH=$(dirname " + mpirun + "):$PATH " +
      pleat_command("launch -n 1 -- generate --model " + model() + " --input " + input + " --output " + output, 0));
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_NE(outcome.err.find("exists already"), std::string::npos) << outcome.err;
  EXPECT_EQ(scratch.read("out.jsonl"), foreign);
  EXPECT_NE(outcome.err.find("exit code 1: no rank has said why; mpirun may, without its --quiet"), std::string::npos)
      << outcome.err;
}

// As a daemon may start it.
TEST(Launch, EndsWhereItsParentIgnoresTheEndOfChildren) {
  const Outcome outcome = shell("trap '' CHLD; " + pleat_command("launch -n 2 -- check --quiet"));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
}

// mpirun killed: no rank is left when the next start comes. The supervisor killed: nothing at all is left.
TEST(Launch, NothingOutlivesMpirunOrTheSupervisor) {
  const Scratch scratch;
  Launched launched(scratch, "-n 2 -- serve --model " + model() + " --threads 1 --listen unix:" + scratch.path("s"));
  const auto listening = [&] { return scratch.read("out").find("listening") != std::string::npos; };
  ASSERT_TRUE(comes_true(listening)) << scratch.read("err");
  const std::vector<pid_t> first = descendants(launched.pid());
  kill(first[0], SIGKILL);
  ASSERT_TRUE(comes_true([&] { return launched.events("start").size() == 2; })) << scratch.read("err");
  for (const pid_t pid : first) EXPECT_NE(kill(pid, 0), 0) << pid;

  ASSERT_TRUE(comes_true([&] { return descendants(launched.pid()).size() == 5; })) << scratch.read("err");
  const std::vector<pid_t> second = descendants(launched.pid());
  kill(launched.pid(), SIGKILL);
  launched.wait();
  EXPECT_TRUE(comes_true(
      [&] { return std::none_of(second.begin(), second.end(), [](pid_t pid) { return kill(pid, 0) == 0; }); }));
}

}  // namespace
}  // namespace pleat::test
