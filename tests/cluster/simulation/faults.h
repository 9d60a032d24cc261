#pragma once
// What is going to befall a world.
#include <optional>
#include <vector>

#include <kj/time.h>

namespace pleat::test {

struct Fault {
  enum Kind {
    start,      // again, after one of those below
    list,       // it again
    kill,       // its system ends its connections
    power_off,  // nobody hears of it
    drain,
    stall,   // of its network
    reset,   // its connections break
    deaf,    // nothing reaches it any more on its connections, and nobody is told
    mute,    // nothing comes from it any more
    hang,    // it computes nothing, but answers
    freeze,  // neither
    unlist,  // the router's list lacks it
    start_router,
    kill_router,
    power_off_router,
    drain_router,
  };
  Kind kind;
  kj::TimePoint at;
  int replica;                           // or any, where it is the router's
  kj::Duration lasts = 0 * kj::SECONDS;  // the absence, the grace, the stall
};

class Faults {
 public:
  void add(const Fault& fault);
  bool empty() const { return to_come_.empty(); }
  kj::Maybe<kj::TimePoint> next() const;  // null: none
  // The next one, where it is time for it.
  std::optional<Fault> take(kj::TimePoint now);

 private:
  std::vector<Fault> to_come_;  // in order of time
};

}  // namespace pleat::test
