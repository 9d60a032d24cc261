#include "kernels/cuda/copy_bandwidth.h"

#include <algorithm>

namespace pleat::cuda {

double copy_bandwidth(const Stream& stream, size_t bytes) {
  constexpr int kRounds = 7;
  const DeviceArray<std::byte> from(bytes), to(bytes);
  zero(from.data(), bytes, stream.get());
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    Event begin(Event::timed), end(Event::timed);
    begin.record(stream);
    copy_on_device(to.data(), from.data(), bytes, stream.get());
    end.record(stream);
    stream.wait();
    best = std::max(best, 2e3 * double(bytes) / double(end.milliseconds_since(begin)));
  }
  return best;
}

}  // namespace pleat::cuda
