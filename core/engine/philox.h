#pragma once
// Philox4x32-10, a counter-based random generator (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1,
// 2, 3, SC 2011): random bits are a function of (key, counter), with no state that a restart or a neighbour could
// disturb.
#include <array>
#include <cstdint>

namespace pleat {

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t(0xD2511F53) * counter[0];
    const uint64_t product1 = uint64_t(0xCD9E8D57) * counter[2];
    counter = {uint32_t(product1 >> 32) ^ counter[1] ^ key[0], uint32_t(product1),
               uint32_t(product0 >> 32) ^ counter[3] ^ key[1], uint32_t(product0)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

// Uniform in [0, 1), 53 bits.
inline double philox_uniform(uint64_t key, uint64_t counter) {
  const auto bits = philox({uint32_t(counter), uint32_t(counter >> 32), 0, 0}, {uint32_t(key), uint32_t(key >> 32)});
  return double((uint64_t(bits[1]) << 32 | bits[0]) >> 11) * 0x1p-53;
}

}  // namespace pleat
