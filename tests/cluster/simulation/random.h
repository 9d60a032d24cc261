#pragma once
// A world's chance: the same numbers for the same seed with every compiler and library.
#include <cstdint>

#include <kj/time.h>

namespace pleat::test {

// The output function of SplitMix64 (Steele, Lea, Flood 2014).
inline uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(mixed(seed)) {}

  uint64_t next() { return mixed(state_++); }
  // Both ends included.
  int64_t between(int64_t least, int64_t most) { return least + int64_t(next() % uint64_t(most - least + 1)); }
  kj::Duration between(kj::Duration least, kj::Duration most) {
    return between(least / kj::MICROSECONDS, most / kj::MICROSECONDS) * kj::MICROSECONDS;
  }
  bool chance(int percent) { return between(1, 100) <= percent; }
  // One that has its own numbers, whatever else is drawn here.
  Random another() { return Random(next()); }

 private:
  uint64_t state_;
};

}  // namespace pleat::test
