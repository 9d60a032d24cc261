#pragma once
// How far a long piece of work is, on stderr: a bar on a terminal, now and then a line in a log.
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace pleat {

class Progress {
 public:
  // total 0: unknown. `quiet`: nothing is ever written.
  Progress(std::string what, int64_t total, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;

  // `detail` stands behind the numbers: "312 tok/s".
  void update(int64_t done, const std::string& detail = {});
  void finish(const std::string& detail = {});

 private:
  using Clock = std::chrono::steady_clock;
  void draw(const std::string& detail);
  void log(const std::string& detail);

  std::string what_;
  int64_t total_;
  int64_t done_ = 0;
  bool quiet_, terminal_;
  bool drawn_ = false;
  Clock::time_point next_;
  Clock::duration interval_;
};

// The same for work in stages, each a share from 0 to 1.
class StagedProgress {
 public:
  StagedProgress(std::string what, bool quiet) : what_(std::move(what)), quiet_(quiet) {}
  void update(const std::string& stage, double fraction);
  void finish();

 private:
  std::string what_, stage_;
  bool quiet_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace pleat
