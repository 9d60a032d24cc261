#include "cluster/http/turns.h"

namespace pleat {

kj::Promise<kj::Own<Turns::Turn>> Turns::take(const std::string& client) {
  const auto [found, first] = waiting_.try_emplace(client);
  if (first) return kj::heap<Turn>(*this, client);
  auto turn = kj::newPromiseAndFulfiller<kj::Own<Turn>>();
  found->second.push_back(kj::mv(turn.fulfiller));
  return kj::mv(turn.promise);
}

void Turns::pass_on(const std::string& client) {
  const auto found = waiting_.find(client);
  while (!found->second.empty()) {
    auto next = kj::mv(found->second.front());
    found->second.pop_front();
    if (next->isWaiting()) return next->fulfill(kj::heap<Turn>(*this, client));
  }
  waiting_.erase(found);
}

}  // namespace pleat
