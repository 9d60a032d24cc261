#pragma once
// The best of many candidates, sorted: every warp sorts its own in registers, then warps merge pairwise and keep the
// better half (Shanbhag et al., Efficient Top-K Query Processing on GPUs, SIGMOD 2018). Included by .cu files only; all
// lanes of a warp call.
#include "device_language.h"
#include "kernels/cuda/candidates.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {

// A candidate as a number, which is the larger the better the candidate is: its value's bits in the order of floats (-0
// is 0), then its token, the lower the better. No value is NaN.
using Ranked = uint64_t;

__device__ inline Ranked ranked(float value, int token) {
  const unsigned bits = __float_as_uint(value + 0.0f), sign = 1u << 31;
  return Ranked((bits & sign) != 0 ? ~bits : bits | sign) << 32 | ~unsigned(token);
}
__device__ inline float value_of(Ranked candidate) {
  const unsigned bits = unsigned(candidate >> 32), sign = 1u << 31;
  return __uint_as_float((bits & sign) != 0 ? bits ^ sign : ~bits);
}
__device__ inline int token_of(Ranked candidate) { return int(~unsigned(candidate)); }

// Behind every token, one whose logit is -inf too.
__device__ inline Ranked no_candidate() { return ranked(-INFINITY, -1); }

__device__ inline Ranked better(Ranked a, Ranked b) { return a > b ? a : b; }
__device__ inline Ranked worse(Ranked a, Ranked b) { return a > b ? b : a; }

// The best kKept of some candidates, in a warp's registers: 1, or 2 kWarp.
template <int kKept>
class BestRun;

template <>
class BestRun<1> {
 public:
  // Of some candidates of each lane.
  template <int kCount>
  __device__ explicit BestRun(const Ranked (&candidates)[kCount]) : best_(candidates[0]) {
    for (int i = 1; i < kCount; ++i) best_ = better(best_, candidates[i]);
    for (int with = kWarp / 2; with > 0; with /= 2) best_ = better(best_, __shfl_xor_sync(~0u, best_, with));
  }
  // Of the warp's share of `count` runs.
  __device__ static BestRun of_runs(const Ranked* runs, int count) {
    Ranked best[] = {no_candidate()};
    for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) best[0] = better(best[0], runs[i]);
    return BestRun(best);
  }
  __device__ void store(Ranked* to) const {
    if (threadIdx.x % kWarp == 0) *to = best_;
  }
  __device__ void merge(const Ranked* run) { best_ = better(best_, *run); }

 private:
  Ranked best_;
};

// Lane l has numbers l and 32 + l of the run, which is sorted, the best first.
template <>
class BestRun<2 * kWarp> {
 public:
  // Of two candidates of each lane: two sorted halves become a whole by comparing the first's best with the second's
  // last and so on, which leaves bitonic halves, each all before or behind the other; those are then halved on.
  __device__ explicit BestRun(const Ranked (&candidates)[2]) : low_(candidates[0]), high_(candidates[1]) {
#pragma unroll
    for (int half = 1; half < kWarp; half *= 2) {
      put_in_order(2 * half - 1, half);
      halve(half / 2);
    }
    const Ranked last = __shfl_xor_sync(~0u, high_, kWarp - 1), first = __shfl_xor_sync(~0u, low_, kWarp - 1);
    low_ = better(low_, last);
    high_ = worse(high_, first);
    halve(kWarp / 2);
  }
  // Of the warp's share of `count` runs.
  __device__ static BestRun of_runs(const Ranked* runs, int count) {
    BestRun best;
#pragma unroll 4
    for (int i = int(threadIdx.x) / kWarp; i < count; i += int(blockDim.x) / kWarp) best.merge(runs + i * 2 * kWarp);
    return best;
  }
  __device__ void store(Ranked* to) const {
    to[lane()] = low_;
    to[kWarp + lane()] = high_;
  }
  // Keeps the better half of this run and another.
  __device__ void merge(const Ranked* run) {
    const Ranked a = better(low_, run[2 * kWarp - 1 - lane()]), b = better(high_, run[kWarp - 1 - lane()]);
    low_ = better(a, b);
    high_ = worse(a, b);
    halve(kWarp / 2);
  }

 private:
  __device__ BestRun() : low_(no_candidate()), high_(no_candidate()) {}
  __device__ static int lane() { return int(threadIdx.x) % kWarp; }
  // Lanes whose numbers differ in the bits of `mask`, `top` the highest of these: the lower lane gets the better one.
  __device__ void put_in_order(int mask, int top) {
    const Ranked low = __shfl_xor_sync(~0u, low_, mask), high = __shfl_xor_sync(~0u, high_, mask);
    const bool first = (lane() & top) == 0;
    low_ = first ? better(low_, low) : worse(low_, low);
    high_ = first ? better(high_, high) : worse(high_, high);
  }
  __device__ void halve(int from) {
#pragma unroll
    for (int distance = from; distance > 0; distance /= 2) put_in_order(distance, distance);
  }

  Ranked low_, high_;
};

// The best of all warps' runs, in warp 0.   runs [warps][kKept] in shared memory, which is overwritten. All threads of
// the block call it.
template <int kKept>
__device__ void merge_warps(BestRun<kKept>& run, Ranked* runs) {
  const int warp = int(threadIdx.x) / kWarp, warps = int(blockDim.x) / kWarp;
  for (int stride = 1; stride < warps; stride *= 2) {
    if (warp % (2 * stride) == stride) run.store(runs + warp * kKept);
    __syncthreads();
    if (warp % (2 * stride) == 0) run.merge(runs + (warp + stride) * kKept);
  }
}

}  // namespace pleat::cuda
