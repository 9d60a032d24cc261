#pragma once
#include <cstdint>

namespace pleat {

// The sum of n floats, n a multiple of 64: as many loads as arithmetic and no more.
template <class Lanes>
float stream_sum_kernel(const float* data, int64_t n) {
  typename Lanes::F sums[4];
  for (auto& sum : sums) sum = Lanes::set1(0.0f);
  for (int64_t i = 0; i < n; i += 64) {
    for (int j = 0; j < 4; ++j) {
      Lanes::prefetch(data + i + 16 * j + 512);
      sums[j] = Lanes::add(sums[j], Lanes::load(data + i + 16 * j));
    }
  }
  return Lanes::sum(Lanes::add(Lanes::add(sums[0], sums[1]), Lanes::add(sums[2], sums[3])));
}

}  // namespace pleat
