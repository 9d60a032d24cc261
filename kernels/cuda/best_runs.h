#pragma once
// The best of a block's candidates, by bitonic sorts of short runs and pairwise merges that keep the better half
// (Shanbhag et al., Efficient Top-K Query Processing on GPUs, SIGMOD 2018). Included by .cu files only; all threads
// call.
#include "device_language.h"
#include "kernels/cuda/candidates.h"

namespace pleat::cuda {

constexpr int kRunThreads = 256;
constexpr int kRunSlots = 2048;
using RunSlots = SharedArray<Candidate, kRunSlots>;

// Behind every token, one whose logit is -inf too: its token is the largest as an unsigned number.
__device__ inline Candidate no_candidate() { return {-INFINITY, -1}; }

// A total order: no value is NaN.
__device__ inline bool is_before(Candidate a, Candidate b) {
  return a.value != b.value ? a.value > b.value : unsigned(a.token) < unsigned(b.token);
}

__device__ inline void put_in_order(RunSlots& slots, int first, int second) {
  const Candidate a = slots[first], b = slots[second];
  if (!is_before(b, a)) return;
  slots[first] = b;
  slots[second] = a;
}

// work(i) for i < count, each on some thread; what it wrote is seen after it.
template <class Work>
__device__ void for_each_index(int count, Work work) {
  for (int i = int(threadIdx.x); i < count; i += kRunThreads) work(i);
  __syncthreads();
}

// The lower slot of the i-th pair that is `distance`, a power of two, apart.
__device__ inline int lower_of_pair(int i, int distance) { return 2 * i - (i & (distance - 1)); }

// Sorts every run of `length` slots, a power of two. Two sorted halves become a whole by comparing the first's best
// with the second's last and so on, which leaves bitonic halves, each all before or behind the other; those are then
// halved on.
__device__ inline void sort_runs(RunSlots& slots, int length) {
  for (int half = 1; half < length; half *= 2) {
    for_each_index(kRunSlots / 2, [&](int i) {
      const int low = lower_of_pair(i, half), offset = i & (half - 1);
      put_in_order(slots, low, low + 2 * (half - offset) - 1);
    });
    for (int distance = half / 2; distance > 0; distance /= 2)
      for_each_index(kRunSlots / 2, [&](int i) {
        const int low = lower_of_pair(i, distance);
        put_in_order(slots, low, low + distance);
      });
  }
}

// Of sorted runs of `length`, the best `length` of all, sorted, in the first run. What is in the others is lost.
__device__ inline void keep_best_run(RunSlots& slots, int length) {
  for (int stride = length; stride < kRunSlots; stride *= 2) {  // runs still alive begin `stride` apart
    const int alive = kRunSlots / (2 * stride) * length;        // slots of those that stay so
    const int spread = 2 * stride / length;
    const auto slot_of = [&](int i) { return (i - (i & (length - 1))) * spread + (i & (length - 1)); };
    for_each_index(alive, [&](int i) {
      const int slot = slot_of(i), offset = i & (length - 1);
      put_in_order(slots, slot, slot + stride + length - 1 - 2 * offset);
    });
    for (int distance = length / 2; distance > 0; distance /= 2)
      for_each_index(alive / 2, [&](int i) {
        const int low = slot_of(lower_of_pair(i, distance));
        put_in_order(slots, low, low + distance);
      });
  }
}

}  // namespace pleat::cuda
