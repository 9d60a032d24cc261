#pragma once
// A circuit breaker: what keeps failing is left alone for a while, then tried with one request. It knows no clock: time
// is told.
#include <kj/time.h>

namespace pleat {

class Breaker {
 public:
  // Of failures in a row that open it, and of the pauses that follow: each twice the one before.
  static constexpr int kFailures = 3;
  static constexpr kj::Duration kFirstPause = 200 * kj::MILLISECONDS, kLongestPause = 5 * kj::SECONDS;

  // A request may go there.
  bool allows(kj::TimePoint now) const { return !trial_ && now >= reopens_; }
  // One goes there. After a pause it is a trial, and the only one until its end is known.
  bool begin() { return trial_ = failures_ >= kFailures; }
  void succeeded();
  // Once more. A trial that fails, or the third failure in a row, opens it. While it is open, failures of what was
  // under way change nothing.
  void failed(kj::TimePoint now);
  // It cannot be reached at all: opens it at once.
  void lost(kj::TimePoint now);
  // A connection stands: pauses stay long until a request succeeds, but none is on trial.
  void reached() { failures_ = 0; }
  // The request ended before it was known how it fares.
  void forgone() { trial_ = false; }

  kj::TimePoint reopens() const { return reopens_; }

 private:
  void open(kj::TimePoint now);

  int failures_ = 0, pauses_ = 0;  // in a row
  bool trial_ = false;
  kj::TimePoint reopens_ = kj::origin<kj::TimePoint>();
};

}  // namespace pleat
