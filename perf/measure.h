#pragma once
// What the benchmarks of kernels share; the read bandwidth is kernels/stream_read.h's.
#include <algorithm>
#include <chrono>
#include <vector>

namespace pleat {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + int64_t(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace pleat
