#include "tests/cluster/simulation/port.h"

#include <kj/debug.h>

#include <algorithm>

namespace pleat::test {

void Port::open(Accept accept) {
  unreachable_ = false;
  accept_ = std::move(accept);
}

void Port::close(bool told) {
  accept_ = nullptr;
  unreachable_ = !told;
  if (!told) cables_.stall(nullptr);
}

kj::Promise<kj::Own<kj::AsyncIoStream>> Port::connect(const std::shared_ptr<Cable>& cable, const std::string& from) {
  if (unreachable_) return kj::NEVER_DONE;
  cables_.add(cable);
  auto ends = ends_of(cable);
  return timer_.atTime(std::max(timer_.now() + cable->quality.delay, stalled_until_))
      .then([this, from, near = kj::mv(ends.near), far = kj::mv(ends.far)]() mutable -> kj::Own<kj::AsyncIoStream> {
        if (!accept_) kj::throwFatalException(KJ_EXCEPTION(DISCONNECTED, "nobody listens there"));
        accept_(kj::mv(far), from);
        return kj::mv(near);
      });
}

void Port::stall(kj::TimePoint until) {
  record_.note(whose_.c_str(), "'s network stalls");
  stalled_until_ = std::max(stalled_until_, until);
  cables_.stall(until);
}

void Port::reset() {
  record_.note(whose_.c_str(), "'s connections break");
  cables_.reset();
}

void Port::half_open(bool there) {
  record_.note(whose_.c_str(), there ? " hears" : " is heard", " no more on its connections");
  cables_.half_open(there);
}

}  // namespace pleat::test
