#pragma once
// From which size on an all-reduce between devices of one host is better done in two shots (kernels/cuda/all_reduce.h).
#include <cstdint>
#include <span>

namespace pleat {

// One size: what one shot reads, and how long either way takes.
struct ShotTimes {
  int64_t bytes = 0;
  float one_shot = 0, two_shot = 0;  // milliseconds
};

constexpr int64_t kNeverTwoShot = INT64_MAX;

// The smallest size from which on two shots took less in every measurement; kNeverTwoShot where the largest took no
// less.   times: ascending sizes
int64_t two_shots_from(std::span<const ShotTimes> times);

}  // namespace pleat
