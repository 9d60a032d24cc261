#pragma once
#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace pleat::cuda {

// Calls each(begin, end) for shares of at least `least` of `count` things, a thread each: a model has billions of
// weights.
template <class Each>
void in_shares(int64_t count, int64_t least, Each each) {
  const int64_t shares = std::clamp<int64_t>(count / least, 1, std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> others;
  for (int64_t share = 1; share < shares; ++share)
    others.emplace_back(each, count * share / shares, count * (share + 1) / shares);
  each(0, count / shares);
  for (std::thread& other : others) other.join();
}

}  // namespace pleat::cuda
