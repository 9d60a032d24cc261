#pragma once
// Programs that run in the background while a test asks them things.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <iterator>
#include <regex>
#include <sstream>
#include <thread>

#include "tests/launcher/program.h"

namespace pleat::test {

class Background {
 public:
  // Until it says where it listens, or has ended.
  explicit Background(const std::string& command) {
    const std::string line = "exec env " + command;
    pid_ = fork();
    if (pid_ == 0) {
      redirect("out", STDOUT_FILENO);
      redirect("err", STDERR_FILENO);
      execlp("sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    const std::regex ready("listening on (?:https?://)?(\\S+)\n");
    for (std::smatch match; !ended() && address_.empty(); std::this_thread::sleep_for(std::chrono::milliseconds(10))) {
      const std::string out = scratch_.read("out");
      if (std::regex_search(out, match, ready)) address_ = match[1];
    }
  }
  ~Background() {
    if (pid_ > 0) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
  }
  Background(const Background&) = delete;

  const std::string& address() const { return address_; }
  std::string errors() const { return scratch_.read("err"); }
  pid_t pid() const { return pid_; }

  // Of any process: the guardian of a rank is mpirun's child, and the rank is the guardian's.
  std::vector<pid_t> children(pid_t parent) const {
    std::istringstream list(shell("cat /proc/" + std::to_string(parent) + "/task/*/children").out);
    return {std::istream_iterator<pid_t>(list), {}};
  }

  // The exit code, -1 if it does not end in time.
  int wait(std::chrono::milliseconds patience = std::chrono::seconds(60)) {
    using Clock = std::chrono::steady_clock;
    for (const auto start = Clock::now(); Clock::now() - start < patience;
         std::this_thread::sleep_for(std::chrono::milliseconds(5)))
      if (ended()) return code_;
    return -1;
  }

 private:
  void redirect(const char* name, int to) const {
    dup2(open(scratch_.path(name).c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600), to);
  }
  bool ended() {
    int status = 0;
    if (pid_ > 0 && waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = 0;
      code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return pid_ == 0;
  }

  Scratch scratch_;
  pid_t pid_ = 0;
  int code_ = -1;
  std::string address_;
};

// The embedded model with ChatML's template beside it: a folder of links in `scratch`.
inline std::string chat_model(const Scratch& scratch) {
  const std::string folder = scratch.path("chat");
  std::filesystem::create_directory(folder);
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::absolute(model())))
    std::filesystem::create_symlink(entry.path(), folder / entry.path().filename());
  scratch.write("chat/chat_template.jinja",
                "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
                "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
  return folder;
}

// `pleat serve`, alone (ranks 0) or under mpirun.
class Served : public Background {
 public:
  explicit Served(int ranks, const std::string& flags = "", const std::string& listen = "127.0.0.1:0",
                  const std::string& folder = model())
      : Background(pleat_command("serve --model " + folder + " --listen " + listen + " " + flags, ranks)) {}
  Outcome ask(const std::string& flags) const { return pleat("ask " + address() + " " + flags); }
};

}  // namespace pleat::test
