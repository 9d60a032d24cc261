#include "cluster/admission.h"

#include <algorithm>

namespace pleat {
namespace {

constexpr double kNewest = 0.125;  // its weight in the running mean

}  // namespace

bool Admission::admit(int64_t tokens, kj::TimePoint now) {
  if (requests_ > 0 && (requests_ >= most_requests_ || tokens_ + tokens > most_tokens_)) return false;
  if (requests_ == 0 && last_end_ != nullptr) last_end_ = now;  // the time without requests is not between ends
  ++requests_;
  tokens_ += tokens;
  return true;
}

bool Admission::has_room(int64_t requests, int64_t tokens) const {
  if (requests_ == 0) return could_hold(requests, tokens);
  return requests_ + requests <= most_requests_ && tokens_ + tokens <= most_tokens_;
}

bool Admission::could_hold(int64_t requests, int64_t tokens) const {
  return requests <= most_requests_ && (requests == 1 || tokens <= most_tokens_);
}

void Admission::leave(int64_t tokens, kj::TimePoint now) {
  --requests_;
  tokens_ -= tokens;
  turned_away_ = 0;
  KJ_IF_MAYBE (before, last_end_) {
    const double seconds = double((now - *before) / kj::NANOSECONDS) * 1e-9;
    seconds_between_ends_ =
        seconds_between_ends_ == 0 ? seconds : (1 - kNewest) * seconds_between_ends_ + kNewest * seconds;
  }
  last_end_ = now;
}

kj::Duration Admission::retry_after() {
  const double each = seconds_between_ends_ > 0 ? seconds_between_ends_ : 1;
  const double seconds = std::clamp(each * double(++turned_away_), 0.05, 60.0);
  return int64_t(seconds * 1000) * kj::MILLISECONDS;
}

}  // namespace pleat
