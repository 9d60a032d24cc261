#include "kernels/stream_read.h"

#include <atomic>
#include <chrono>
#include <cstdint>

namespace pleat {

double stream_read(Context& ctx, const Buffer& memory) {
  constexpr int64_t kLine = 8;  // words of a cache line
  const uint64_t* words = memory.as<uint64_t>();
  const int64_t lines = int64_t(memory.bytes()) / 64;
  std::atomic<uint64_t> kept{0};  // so that no load can be dropped
  const auto start = std::chrono::steady_clock::now();
  ctx.team().split(lines, [&](int, int64_t begin, int64_t end) {
    uint64_t sums[kLine] = {};
    for (int64_t line = begin; line < end; ++line) {
      const uint64_t* word = words + line * kLine;
      __builtin_prefetch(word + 32 * kLine);
      for (int i = 0; i < kLine; ++i) sums[i] += word[i];
    }
    uint64_t sum = 0;
    for (uint64_t part : sums) sum += part;
    kept += sum;
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return double(lines * 64) / seconds.count();
}

}  // namespace pleat
