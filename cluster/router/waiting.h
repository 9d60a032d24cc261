#pragma once
// Promises with an end.
#include <kj/timer.h>

#include <string>

namespace pleat {

inline kj::Exception failure(kj::Exception::Type type, const std::string& sentence) {
  return {type, "router", 0, kj::heapString(sentence.data(), sentence.size())};
}

// Fails with `sentence` where it takes longer.
template <class T>
kj::Promise<T> within(kj::Timer& timer, kj::Duration time, kj::Promise<T> promise, const std::string& sentence) {
  return promise.exclusiveJoin(timer.afterDelay(time).then(
      [sentence]() -> kj::Promise<T> { return failure(kj::Exception::Type::OVERLOADED, sentence); }));
}

}  // namespace pleat
