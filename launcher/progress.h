#pragma once
// How far a long piece of work is, on stderr: a bar on a terminal, now and then a line in a log.
#include <chrono>
#include <cstdint>
#include <string>

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

}  // namespace pleat
