#pragma once
// What happens in a world: a line an event, with its time, and a digest over all of them. The first broken promise is
// kept.
#include <cstdio>
#include <string>

#include <kj/string.h>
#include <kj/timer.h>

namespace pleat::test {

class Record {
 public:
  Record(kj::Timer& timer, bool prints) : timer_(timer), prints_(prints) {}

  template <class... Parts>
  void note(Parts&&... parts) {
    const kj::String line = kj::str(microseconds(), ' ', kj::fwd<Parts>(parts)...);
    for (const char byte : line) digest_ = (digest_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3;  // FNV-1a
    if (prints_) std::puts(line.cStr());
  }
  // Less than a line: so much of something, now.
  void count(uint64_t amount) {
    digest_ = ((digest_ ^ uint64_t(microseconds())) * 0x100000001b3 ^ amount) * 0x100000001b3;
  }

  template <class... Parts>
  void broken(Parts&&... parts) {
    const kj::String what = kj::str(kj::fwd<Parts>(parts)...);
    note("BROKEN: ", what);
    if (broken_.empty()) broken_ = what.cStr();
  }

  const std::string& first_broken() const { return broken_; }  // promise; empty: none
  uint64_t digest() const { return digest_; }

 private:
  int64_t microseconds() const { return (timer_.now() - kj::origin<kj::TimePoint>()) / kj::MICROSECONDS; }

  kj::Timer& timer_;
  const bool prints_;
  uint64_t digest_ = 0xcbf29ce484222325;
  std::string broken_;
};

}  // namespace pleat::test
