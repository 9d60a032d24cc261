// simulation --seeds FIRST COUNT: lives through so many worlds and stops at the first broken promise.
// simulation --seed N: lives through that one and prints what happens in it.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "tests/cluster/simulation/world.h"

namespace pleat::test {
namespace {

constexpr uint64_t kTwice = 50;  // of so many worlds one is lived through again, and has to be the same

bool holds(uint64_t seed, const Tally& tally) {
  if (tally.broken.empty()) return true;
  std::printf("seed %llu: %s\nto replay it: ./dev simulate --seed %llu\n", (unsigned long long)seed,
              tally.broken.c_str(), (unsigned long long)seed);
  return false;
}

bool live_through_all(uint64_t first, uint64_t count) {
  Tally all;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    Tally tally = live_through(seed, false);
    if (seed % kTwice == 0 && live_through(seed, false).digest != tally.digest)
      tally.broken = "the same seed gives another world";
    if (!holds(seed, tally)) return false;
    all.add(tally);
  }
  std::printf(
      "%lld worlds, %lld faults: %lld whole texts, %lld of them by several replicas; turned away %lld, late %lld, "
      "too slow %lld, too large %lld, left %lld; answers without the router %lld\n",
      (long long)all.worlds, (long long)all.faults, (long long)all.whole, (long long)all.moved,
      (long long)all.turned_away, (long long)all.late, (long long)all.slow, (long long)all.too_large,
      (long long)all.left, (long long)all.called);
  return true;
}

}  // namespace
}  // namespace pleat::test

int main(int argc, char** argv) {
  using namespace pleat::test;
  const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  try {
    if (argc == 4 && std::strcmp(argv[1], "--seeds") == 0) return live_through_all(number(2), number(3)) ? 0 : 1;
    if (argc == 3 && std::strcmp(argv[1], "--seed") == 0)
      return holds(number(2), live_through(number(2), true)) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "simulation: %s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: simulation --seeds FIRST COUNT | --seed N\n");
  return 2;
}
