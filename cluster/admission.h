#pragma once
// How much a server takes on at once, and when to come back if that is reached. It knows no clock: time is told.
#include <cstdint>

#include <kj/time.h>

namespace pleat {

class Admission {
 public:
  // At most so many requests, and so many of their tokens (prompt and max_tokens), at a time. A request that is larger
  // than all may be admitted alone.
  Admission(int64_t requests, int64_t tokens) : most_requests_(requests), most_tokens_(tokens) {}

  bool admit(int64_t tokens, kj::TimePoint now);
  bool full() const { return requests_ > 0 && requests_ >= most_requests_; }  // whatever a request's tokens
  // So many would be admitted one after the other now.
  bool has_room(int64_t requests, int64_t tokens) const;
  // So many requests, of so many tokens together, where nothing else is there.
  bool could_hold(int64_t requests, int64_t tokens) const;
  // What was admitted has ended.
  void leave(int64_t tokens, kj::TimePoint now);

  // For one that was not admitted. Requests end about every so often, and those turned away since the last end queue up
  // in the order they asked: each is told to wait for one end more. Between 50 ms and a minute; a second while nothing
  // has ended yet.
  kj::Duration retry_after();

  int64_t requests() const { return requests_; }
  int64_t tokens() const { return tokens_; }

 private:
  const int64_t most_requests_, most_tokens_;
  int64_t requests_ = 0, tokens_ = 0;
  int64_t turned_away_ = 0;  // since the last end
  kj::Maybe<kj::TimePoint> last_end_;
  double seconds_between_ends_ = 0;  // a running mean; 0: not known
};

}  // namespace pleat
