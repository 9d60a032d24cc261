#include "tests/cluster/simulation/faults.h"

#include <algorithm>

namespace pleat::test {

void Faults::add(const Fault& fault) {
  const auto later = [&](const Fault& other) { return other.at > fault.at; };
  to_come_.insert(std::find_if(to_come_.begin(), to_come_.end(), later), fault);
}

kj::Maybe<kj::TimePoint> Faults::next() const {
  if (to_come_.empty()) return nullptr;
  return to_come_.front().at;
}

std::optional<Fault> Faults::take(kj::TimePoint now) {
  if (to_come_.empty() || now < to_come_.front().at) return std::nullopt;
  const Fault first = to_come_.front();
  to_come_.erase(to_come_.begin());
  return first;
}

}  // namespace pleat::test
