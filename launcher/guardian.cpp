#include "launcher/guardian.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "kernels/check.h"
#include "launcher/bootstrap.h"
#include "launcher/rank_process.h"

namespace pleat {
namespace {

constexpr std::chrono::seconds kSilence{5};

// One write, so that lines of several processes do not mix.
void print_line(const std::string& text) {
  const std::string line = "pleat: " + text + "\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

int exit_code(const std::exception& thrown) {
  const auto* error = dynamic_cast<const Error*>(&thrown);
  if (!error) return 1;
  switch (error->kind()) {
    case ErrorKind::invalid:
    case ErrorKind::unimplemented:
      return 2;
    case ErrorKind::peer_lost:
      return kExitPeerLost;
    default:
      return 1;
  }
}

int run_body(int argc, char** argv, int (*body)(int, char**)) {
  try {
    const int code = body(argc, argv);
    if (code == 0) leave_ranks();
    return code;
  } catch (const std::exception& error) {
    // One rank speaks, when it has let go of what it has; then the launcher ends those that say nothing.
    if (error.what()[0] != 0)
      print_line(error.what());
    else
      std::this_thread::sleep_for(kSilence);
    return exit_code(error);
  }
}

int run_rank(pid_t guardian, int argc, char** argv, int (*body)(int, char**)) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != guardian) _exit(kExitPeerLost);
  // A group of its own: what is sent to the launcher's process group arrives once, through the guardian.
  setpgid(0, 0);
  RankProcess& process = rank_process();
  process.ledger->pid = getpid();
  const int code = run_body(argc, argv, body);
  if (process.joined && !process.left) {
    // MPI_Finalize would wait for the others.
    fflush(nullptr);
    _exit(code);
  }
  process.ledger->finished = 1;
  return code;
}

std::string who(pid_t child) {
  char host[64] = {};
  gethostname(host, sizeof host - 1);
  return concat("rank ", rank_process().place.rank, " (host ", host, ", pid ", child, ")");
}

bool is_stopped(pid_t child) {
  std::ifstream file(concat("/proc/", child, "/stat"));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text.compare(name_end, 3, ") T") == 0;
}

class Guardian {
 public:
  Guardian(pid_t child, const sigset_t& signals) : child_(child), signals_(signals) {}

  int watch() {
    for (;;) {
      int status = 0;
      if (waitpid(child_, &status, WNOHANG) == child_) return verdict(status);
      take_signal(ending_ ? 50'000'000 : -1);
      if (ending_ && (is_stopped(child_) || steady_ns() > ending_since_ + rank_process().ledger->grace_ns))
        kill(child_, SIGKILL);
    }
  }

 private:
  // Waits for a signal, at most so long (-1: for ever); passes on what asks the rank to end.
  void take_signal(int64_t patience_ns) {
    const timespec patience{0, patience_ns};
    const int signal = patience_ns < 0 ? sigwaitinfo(&signals_, nullptr) : sigtimedwait(&signals_, nullptr, &patience);
    if (signal <= 0 || signal == SIGCHLD) return;
    if (!ending_) ending_since_ = steady_ns();
    ending_ = true;
    kill(child_, signal == SIGUSR1 ? SIGTERM : signal);
  }

  int verdict(int status) {
    Ledger& ledger = *rank_process().ledger;
    if (WIFEXITED(status)) {
      const int code = WEXITSTATUS(status);
      const bool explained = code == 1 || code == 2 || code == kExitPeerLost;
      if (ledger.finished || explained || ending_) return code;
      return report(concat("exited with code ", code, " before its end,"));
    }
    const int signal = WTERMSIG(status);
    // The launcher may send the same request to the rank itself; then ours is on its way.
    if (signal == SIGTERM || signal == SIGINT || signal == SIGHUP) take_signal(200'000'000);
    if (ending_) return 128 + signal;
    return report(concat("was killed by signal ", signal, " (", strsignal(signal), ")"));
  }

  int report(const std::string& what) {
    Ledger& ledger = *rank_process().ledger;
    print_line(concat(who(child_), " ", what, " ", describe(ledger)));
    ledger.lost = 1;
    return kExitPeerLost;
  }

  const pid_t child_;
  const sigset_t signals_;
  bool ending_ = false;
  int64_t ending_since_ = 0;
};

}  // namespace

int run_guarded(int argc, char** argv, int (*body)(int argc, char** argv)) {
  RankProcess& process = rank_process();
  process.place = launched_rank();
  if (process.place.ranks == 1) return run_body(argc, argv, body);
  try {
    process.open_ledger();
  } catch (const Error& error) {
    print_line(error.what());
    return exit_code(error);
  }

  signal(SIGCHLD, SIG_DFL);  // ignored, as a parent may leave it, it would never come
  sigset_t signals, before;
  sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, &before);
  const pid_t guardian = getpid();
  const pid_t child = fork();
  if (child == 0) {
    sigprocmask(SIG_SETMASK, &before, nullptr);
    return run_rank(guardian, argc, argv, body);
  }
  if (child < 0) {
    print_line(concat("cannot fork: ", strerror(errno)));
    process.ledger_memory.unlink();
    return 1;
  }
  const int code = Guardian(child, signals).watch();
  process.ledger_memory.unlink();
  return code;
}

}  // namespace pleat
