#include "launcher/supervisor.h"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "kernels/check.h"
#include "launcher/guardian.h"
#include "launcher/job_errors.h"
#include "launcher/launch_event.h"
#include "launcher/together.h"

namespace pleat {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kLongRun = 60, kLongestWait = 60;  // seconds

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

bool is_in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "/usr/bin:/bin");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (access(concat(folder, "/", program).c_str(), X_OK) == 0) return true;
  return false;
}

struct Ending {
  int code = 0;        // 128 + signal where one ended it
  std::string how;     // "exit code 70", "killed by signal 9 (Killed)"
  double seconds = 0;  // how long it ran
};

Ending ending_of(int status, double seconds) {
  if (WIFEXITED(status)) return {WEXITSTATUS(status), concat("exit code ", WEXITSTATUS(status)), seconds};
  const int signal = WTERMSIG(status);
  return {128 + signal, concat("killed by signal ", signal, " (", strsignal(signal), ")"), seconds};
}

class Supervisor {
 public:
  explicit Supervisor(const LaunchOptions& options) : options_(options) {
    signal(SIGCHLD, SIG_DFL);  // ignored, as a parent may leave it, it would never come
    sigemptyset(&signals_);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1}) sigaddset(&signals_, signal);
    sigprocmask(SIG_BLOCK, &signals_, &before_);
    signal_fd_ = signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK);
    PLEAT_ASSERT(signal_fd_ >= 0);
    // What mpirun leaves behind becomes a child of this process, which can end it.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
  }
  ~Supervisor() {
    close(signal_fd_);
    sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Supervisor(const Supervisor&) = delete;

  int run() {
    std::istringstream interfaces(options_.interface);
    for (std::string one; std::getline(interfaces, one, ',');)
      PLEAT_REQUIRE(one.find('/') != std::string::npos || if_nametoindex(one.c_str()) != 0,
                    "this host has no network interface '", one, "'");
    const Surroundings around = surroundings();
    // Only what this job has written is continued: what was there before is another's.
    std::error_code absent;
    const std::string output = batch_output(options_.command);
    const bool is_new = std::filesystem::file_size(output, absent) == 0 || absent;
    for (int failures = 0;; ++attempt_) {
      const MpirunCommand command = mpirun_command(options_, around, attempt_ > 1 && is_new);
      if (attempt_ == 1 && !is_in_path("mpirun"))
        throw Error(ErrorKind::unimplemented, "there is no mpirun in PATH; Debian's is in the package openmpi-bin");
      const Ending ending = run_once(command);
      if (ending.code == 0 || ending.code == kExitInvalid || asked_) return ending.code;
      failures = ending.seconds < kLongRun ? failures + 1 : 1;
      if (failures > options_.restarts) {
        say("give up", concat(failures, " failures in a row"), {{"failures", failures}});
        return ending.code;
      }
      const double wait = std::min(kLongestWait, double(1LL << std::min(failures - 1, 30)));
      say("restart", concat("in ", wait, " s, failure ", failures, " of ", options_.restarts, " in a row"),
          {{"seconds", wait}, {"failures", failures}});
      if (!sleep(wait)) return ending.code;
    }
  }

 private:
  void say(const char* name, const std::string& words, const nlohmann::ordered_json& details) {
    print({name, attempt_, words, details}, options_.json);
  }

  // Until it ends, signals passed on.
  Ending run_once(const MpirunCommand& command) {
    int ends[2];
    PLEAT_ASSERT(pipe2(ends, O_CLOEXEC) == 0);
    const pid_t parent = getpid();
    const Clock::time_point begin = Clock::now();
    child_ = fork();
    if (child_ == 0) become(command, ends[1], parent);
    close(ends[1]);
    JobErrors errors(ends[0]);
    if (child_ < 0) throw Error(ErrorKind::failed, concat("cannot fork: ", strerror(errno)));
    say("start",
        concat(command.ranks, command.ranks == 1 ? " rank" : " ranks", ", pid ", child_, ": ",
               shell_line(command.words)),
        {{"pid", child_}, {"ranks", command.ranks}, {"command", command.words}});

    std::optional<int> status;
    while (!status) {
      pollfd wanted[] = {{signal_fd_, POLLIN, 0}, {errors.ended() ? -1 : errors.fd(), POLLIN, 0}};
      poll(wanted, 2, -1);
      if (wanted[1].revents) errors.pass_on();
      if (wanted[0].revents) take_signals();
      status = reap();
    }
    child_ = -1;
    end_leftovers();
    while (!errors.ended()) errors.pass_on();
    Ending ending = ending_of(*status, seconds_since(begin));
    const std::string cause = ending.code == 0 ? "done" : errors.cause();
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%.1f", ending.seconds);
    const std::string why = cause.empty() && !asked_ ? "no rank has said why; mpirun may, without its --quiet" : cause;
    say("stop", concat("after ", seconds, " s, ", ending.how, why.empty() ? "" : ": ", why),
        {{"seconds", ending.seconds}, {"code", ending.code}, {"cause", why.empty() ? ending.how : why}});
    return ending;
  }

  [[noreturn]] void become(const MpirunCommand& command, int errors, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(kExitPeerLost);
    setpgid(0, 0);  // Ctrl-C reaches the job through this process alone
    sigprocmask(SIG_SETMASK, &before_, nullptr);
    dup2(errors, STDERR_FILENO);
    // A process group in the background must not read the terminal.
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
    for (const auto& [name, value] : command.environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> words;
    for (const std::string& word : command.words) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    execvp(words[0], words.data());
    _exit(127);
  }

  // mpirun's status where it has ended. Whoever else ends is no longer there.
  std::optional<int> reap() const {
    std::optional<int> found;
    int status = 0;
    for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;)
      if (ended == child_) found = status;
    return found;
  }

  void take_signals() {
    signalfd_siginfo info;
    while (read(signal_fd_, &info, sizeof info) == sizeof info) {
      const int signal = int(info.ssi_signo);
      if (signal == SIGCHLD) continue;
      say("signal", concat(strsignal(signal), asked_ ? ": the job is ended" : ": the job is asked to end"),
          {{"signal", signal}});
      if (child_ > 0) kill(child_, asked_ ? signal : SIGUSR1);
      asked_ = true;
    }
  }

  static void end_leftovers() {
    // Killing a parent hands its children to this process.
    for (bool some = true; some;) {
      some = false;
      std::ifstream children(concat("/proc/self/task/", getpid(), "/children"));
      for (pid_t pid; children >> pid;) {
        some = true;
        kill(pid, SIGKILL);
        waitpid(pid, nullptr, 0);
      }
    }
  }

  // False if a signal ended it.
  bool sleep(double seconds) {
    const Clock::time_point begin = Clock::now();
    while (!asked_) {
      const double left = seconds - seconds_since(begin);
      if (left <= 0) return true;
      pollfd wanted = {signal_fd_, POLLIN, 0};
      poll(&wanted, 1, int(left * 1000) + 1);
      take_signals();
    }
    return false;
  }

  const LaunchOptions& options_;
  sigset_t signals_, before_;
  int signal_fd_ = -1;
  int attempt_ = 1;
  pid_t child_ = -1;
  bool asked_ = false;  // a signal has asked the job to end
};

}  // namespace

int supervise(const LaunchOptions& options) { return Supervisor(options).run(); }

}  // namespace pleat
