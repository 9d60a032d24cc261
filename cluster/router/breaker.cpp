#include "cluster/router/breaker.h"

#include <algorithm>

namespace pleat {

void Breaker::succeeded() { *this = Breaker(); }

void Breaker::failed(kj::TimePoint now) {
  if (now < reopens_) return;
  trial_ = false;
  if (++failures_ >= kFailures) open(now);
}

void Breaker::lost(kj::TimePoint now) {
  trial_ = false;
  failures_ = kFailures;
  open(now);
}

void Breaker::open(kj::TimePoint now) {
  reopens_ = now + std::min(kFirstPause * (1 << pauses_), kLongestPause);
  pauses_ = std::min(pauses_ + 1, 10);
}

}  // namespace pleat
