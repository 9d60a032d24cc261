#include "parallel/device/measured_ways.h"

#include <algorithm>
#include <vector>

#include "kernels/cuda/all_reduce.h"

namespace pleat {
namespace {

constexpr int kRounds = 2, kCalls = 2;

}  // namespace

int64_t second_way_from(std::span<const WayTimes> times) {
  int64_t bytes = kNever;
  for (size_t i = times.size(); i > 0 && times[i - 1].second < times[i - 1].first; --i) bytes = times[i - 1].bytes;
  return bytes;
}

MeasuredRows::MeasuredRows(int64_t bytes_of_a_row, int64_t first_bytes, int64_t last_bytes, int64_t capacity)
    : row_bytes(bytes_of_a_row),
      first(std::max<int64_t>(1, first_bytes / row_bytes)),
      last(std::min({last_bytes / row_bytes, capacity / kMeasuredWidth, int64_t(cuda::kAllReduceRows)})) {}

// Where ranks share a device, memory comes and goes while none of their kernels waits: either may wait for all of them.
int64_t measure_second_way(Communicator& communicator, const char* name, const MeasuredRows& measured,
                           const EnqueueSum& enqueue, const std::function<void(const cuda::Stream&)>& wait) {
  if (measured.none()) return kNever;
  const cuda::Stream stream;
  cuda::Event begin(cuda::Event::timed), end(cuda::Event::timed);
  const cuda::DeviceArray<float> values(size_t(measured.last * kMeasuredWidth));
  cuda::zero(values.data(), values.size() * sizeof(float), stream.get());
  std::vector<WayTimes> times;
  communicator.barrier(name);  // nobody allocates
  for (int64_t rows = measured.first; rows <= measured.last; rows *= 2) {
    const auto best = [&](bool second) {
      float least = 0;
      for (int round = 0; round < kRounds; ++round) {
        begin.record(stream);
        for (int call = 0; call < kCalls; ++call) enqueue(second, stream, int(rows), values.data());
        end.record(stream);
        wait(stream);
        const float milliseconds = end.milliseconds_since(begin);
        least = round == 0 ? milliseconds : std::min(least, milliseconds);
      }
      return least;
    };
    const float first = best(false);
    times.push_back({rows * measured.row_bytes, first, best(true)});
  }
  communicator.barrier(name);  // nobody waits in a kernel
  int64_t bytes = second_way_from(times);
  communicator.broadcast(name, std::as_writable_bytes(std::span(&bytes, 1)));
  return bytes;
}

}  // namespace pleat
