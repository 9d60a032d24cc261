#include "launcher/progress.h"

#include <algorithm>
#include <cstdio>

#include <unistd.h>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int kBarWidth = 28;
constexpr std::chrono::milliseconds kRedraw{100};
// A log gets a line after one second, then ever more rarely: short work shows life, long work does not fill the log.
constexpr std::chrono::seconds kFirstLine{1}, kLastInterval{30};

}  // namespace

Progress::Progress(std::string what, int64_t total, bool quiet)
    : what_(std::move(what)), total_(total), quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {
  interval_ = terminal_ ? Clock::duration(kRedraw) : Clock::duration(kFirstLine);
  next_ = Clock::now() + (terminal_ ? Clock::duration::zero() : interval_);
}

Progress::~Progress() {
  if (drawn_) std::fputc('\n', stderr);
}

void Progress::update(int64_t done, const std::string& detail) {
  done_ = done;
  if (quiet_ || Clock::now() < next_) return;
  next_ = Clock::now() + interval_;
  if (terminal_) {
    draw(detail);
  } else {
    log(detail);
    interval_ = std::min<Clock::duration>(2 * interval_, kLastInterval);
  }
}

void Progress::finish(const std::string& detail) {
  if (quiet_) return;
  terminal_ ? draw(detail) : log(detail);
  if (drawn_) std::fputc('\n', stderr);
  drawn_ = false;
}

void Progress::draw(const std::string& detail) {
  std::string bar;
  if (total_ > 0) {
    const int full = int(std::clamp<int64_t>(done_ * kBarWidth / total_, 0, kBarWidth));
    bar = concat('[', std::string(size_t(full), '#'), std::string(size_t(kBarWidth - full), '.'), "] ", done_, '/',
                 total_);
  } else {
    bar = std::to_string(done_);
  }
  std::fprintf(stderr, "\r\033[K%s %s  %s", what_.c_str(), bar.c_str(), detail.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::log(const std::string& detail) {
  const std::string of = total_ > 0 ? concat(" of ", total_) : "";
  std::fprintf(stderr, "%s %lld%s%s%s\n", what_.c_str(), static_cast<long long>(done_), of.c_str(),
               detail.empty() ? "" : "  ", detail.c_str());
}

void StagedProgress::update(const std::string& stage, double fraction) {
  if (stage != stage_) {
    finish();
    stage_ = stage;
    progress_ = std::make_unique<Progress>(what_ + stage, 100, quiet_);
  }
  progress_->update(int64_t(fraction * 100), "%");
}

void StagedProgress::finish() {
  if (progress_) progress_->finish();
  progress_.reset();
}

}  // namespace pleat
