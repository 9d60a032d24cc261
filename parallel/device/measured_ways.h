#pragma once
// From which size on an all-reduce between devices is better done another way: measured at the start.
#include <cstdint>
#include <functional>
#include <span>

#include "kernels/cuda/device.h"
#include "parallel/communicator.h"

namespace pleat {

// One size, and how long either way takes.
struct WayTimes {
  int64_t bytes = 0;
  float first = 0, second = 0;  // milliseconds
};

constexpr int64_t kNever = INT64_MAX;

// The smallest size from which on the second way took less in every measurement; kNever where it took no less in the
// largest.   times: ascending sizes
int64_t second_way_from(std::span<const WayTimes> times);

constexpr int kMeasuredWidth = 4096;  // floats of a row

// What is measured: a sum a rank, of so many rows, each time twice as many. None where `first` is more than `last`.
struct MeasuredRows {
  int64_t row_bytes = 0;
  int64_t first = 0, last = 0;

  // Sizes from first_bytes to last_bytes, as far as messages of `capacity` floats and a call's rows go.
  MeasuredRows(int64_t row_bytes, int64_t first_bytes, int64_t last_bytes, int64_t capacity);
  bool none() const { return first > last; }
};

// Enqueues one sum, in place, one way or the other.   values [rows, kMeasuredWidth], on the device
using EnqueueSum = std::function<void(bool second, const cuda::Stream& stream, int rows, float* values)>;

// Collective: second_way_from() of both ways' times, the best of a few rounds. Rank 0's clock decides for all.
//   wait  returns when the stream has done all that was enqueued
int64_t measure_second_way(Communicator& communicator, const char* name, const MeasuredRows& measured,
                           const EnqueueSum& enqueue, const std::function<void(const cuda::Stream&)>& wait);

}  // namespace pleat
