#include "cluster/router/breaker.h"

#include <algorithm>

namespace pleat {

void Breaker::succeeded() { *this = Breaker(); }

void Breaker::failed(kj::TimePoint now) {
  trial_ = false;
  if (++failures_ < kFailures) return;
  reopens_ = now + std::min(kFirstPause * (1 << pauses_), kLongestPause);
  pauses_ = std::min(pauses_ + 1, 10);
}

void Breaker::lost(kj::TimePoint now) {
  failures_ = kFailures - 1;
  failed(now);
}

}  // namespace pleat
