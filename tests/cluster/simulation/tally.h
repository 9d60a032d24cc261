#pragma once
// The counts of worlds.
#include <cstdint>
#include <string>

namespace pleat::test {

// What happened in one world, or in many.
struct Tally {
  int64_t worlds = 0, whole = 0, moved = 0, refused = 0, left = 0, called = 0, faults = 0;
  int64_t turned_away = 0, late = 0, slow = 0, too_large = 0;  // of the refused ones
  uint64_t digest = 0;
  std::string broken;  // the first promise; empty: none

  void add(const Tally& other);
};

}  // namespace pleat::test
