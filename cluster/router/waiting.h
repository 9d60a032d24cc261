#pragma once
// Promises with an end.
#include <kj/timer.h>

#include <string>

namespace pleat {

inline kj::Exception failure(kj::Exception::Type type, const std::string& sentence) {
  return {type, "router", 0, kj::heapString(sentence.data(), sentence.size())};
}

// Fails with `sentence` where it takes longer. The time passes in two halves: where the loop stood still for all of it,
// what came meanwhile is seen before the second one is over.
template <class T>
kj::Promise<T> within(kj::Timer& timer, kj::Duration time, kj::Promise<T> promise, const std::string& sentence) {
  auto late = timer.afterDelay(time / 2)
                  .then([&timer, time] { return timer.afterDelay(time - time / 2); })
                  .then([sentence]() -> kj::Promise<T> { return failure(kj::Exception::Type::OVERLOADED, sentence); });
  return promise.exclusiveJoin(kj::mv(late));
}

}  // namespace pleat
