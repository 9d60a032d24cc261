#include "kernels/cuda/candidates.h"

#include <type_traits>

#include "kernels/cuda/activate.h"
#include "kernels/cuda/best_runs.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {
namespace {

constexpr int kSliceThreads = 512;
static_assert(kMaxCandidates == 2 * kWarp);

// Of a thread, tokens; of a block, a slice of them; and the threads that merge the slices of a row.
template <int kKept>
constexpr int kEach = kKept == 1 ? 8 : 2;
template <int kKept>
constexpr int kSlice = kSliceThreads* kEach<kKept>;
template <int kKept>
constexpr int kMergeThreads = kKept == 1 ? 128 : 1024;

// exp(x - max); inf - inf is nothing.
__device__ float relative_exp(float x, float max) { return x == max ? 1.0f : expf(x - max); }

struct Tokens {
  int first, count;
};

// The sums over a block of whole warps, in thread 0; all threads call it.
__device__ LogitSum sum_of_block(float max, float sum, int nans) {
  __shared__ SharedArray<float, kWarp> sums;
  __shared__ SharedArray<int, kWarp> counts;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, warps = int(blockDim.x) / kWarp;
  sum = warp_sum(sum);
  nans = warp_sum(nans);
  if (lane == 0) {
    sums[warp] = sum;
    counts[warp] = nans;
  }
  __syncthreads();
  if (warp > 0) return {};
  return {max, warp_sum(lane < warps ? sums[lane] : 0.0f), warp_sum(lane < warps ? counts[lane] : 0)};
}

// A block's slice of a row: its best kKept candidates, sorted, and its sum.
//   slice_best [rows, slices, kKept], slice_sums [rows, slices]
template <int kKept>
__global__ void __launch_bounds__(kSliceThreads)
    search_slices(Tokens tokens, float soft_cap, const float* logits, Ranked* slice_best, LogitSum* slice_sums) {
  __shared__ SharedArray<Ranked, kSliceThreads / kWarp * kKept> runs;
  const int warp = int(threadIdx.x) / kWarp;
  const auto token_of = [&](int each) {
    return int(blockIdx.x) * kSlice<kKept> + (warp * kEach<kKept> + each) * kWarp + int(threadIdx.x) % kWarp;
  };
  const int64_t slice = int64_t(blockIdx.y) * gridDim.x + blockIdx.x;
  let_next_start();
  wait_for_previous();
  float values[kEach<kKept>];
  Ranked candidates[kEach<kKept>];
  int nans = 0;
#pragma unroll
  for (int each = 0; each < kEach<kKept>; ++each) {
    const int token = token_of(each);
    const bool is_there = token < tokens.count;
    float value = is_there ? logits[int64_t(blockIdx.y) * tokens.count + token] : -INFINITY;
    if (soft_cap > 0) value = soft_capped(soft_cap, value);
    if (value != value) {
      value = -INFINITY;
      ++nans;
    }
    values[each] = value;
    candidates[each] = is_there ? ranked(value, tokens.first + token) : no_candidate();
  }
  BestRun<kKept> run(candidates);
  merge_warps(run, runs.data());
  if (warp == 0) {
    run.store(slice_best + slice * kKept);
    run.store(runs.data());
  }
  __syncthreads();
  const float max = value_of(runs[0]);
  float sum = 0;
#pragma unroll
  for (int each = 0; each < kEach<kKept>; ++each)
    if (token_of(each) < tokens.count) sum += relative_exp(values[each], max);
  const LogitSum of_slice = sum_of_block(max, sum, nans);
  if (threadIdx.x == 0) slice_sums[slice] = of_slice;
}

// One block a row: the best k of its slices' candidates, and the sum of their sums.
template <int kKept>
__global__ void __launch_bounds__(kMergeThreads<kKept>)
    merge_slices(int slices, int k, const Ranked* slice_best, const LogitSum* slice_sums, Candidate* candidates,
                 LogitSum* sums) {
  __shared__ SharedArray<Ranked, kMergeThreads<kKept> / kWarp * kKept> runs;
  const int64_t row = blockIdx.x;
  const int warp = int(threadIdx.x) / kWarp;
  slice_best += row * slices * kKept;
  slice_sums += row * slices;
  let_next_start();
  wait_for_previous();
  auto run = BestRun<kKept>::of_runs(slice_best, slices);
  merge_warps(run, runs.data());
  if (warp == 0) run.store(runs.data());
  __syncthreads();
  for (int i = int(threadIdx.x); i < k; i += kMergeThreads<kKept>)
    candidates[row * k + i] = {value_of(runs[i]), token_of(runs[i])};

  const float max = value_of(runs[0]);
  float sum = 0;
  int nans = 0;
  for (int slice = int(threadIdx.x); slice < slices; slice += kMergeThreads<kKept>) {
    sum += slice_sums[slice].sum * relative_exp(slice_sums[slice].max, max);
    nans += slice_sums[slice].nans;
  }
  const LogitSum of_row = sum_of_block(max, sum, nans);
  if (threadIdx.x == 0) sums[row] = of_row;
}

int slices_of(int vocab, int slice) { return (vocab + slice - 1) / slice; }

}  // namespace

CandidateFinder::CandidateFinder(int max_rows, int first_token, int vocab, float soft_cap)
    : max_rows_(max_rows),
      first_token_(first_token),
      vocab_(vocab),
      soft_cap_(soft_cap),
      slice_best_(size_t(max_rows) * size_t(slices_of(vocab, kSlice<kMaxCandidates>)) * kMaxCandidates),
      slice_sums_(size_t(max_rows) * size_t(slices_of(vocab, kSlice<kMaxCandidates>))) {}

void CandidateFinder::find(cudaStream_t stream, int rows, int k, const float* logits, Candidate* candidates,
                           LogitSum* sums) {
  PLEAT_ASSERT(rows <= max_rows_ && k >= 1 && k <= kMaxCandidates, rows, " rows, ", k, " candidates");
  const auto find_best = [&]<int kKept>(std::integral_constant<int, kKept>) {
    const int slices = slices_of(vocab_, kSlice<kKept>);
    launch_overlapping(search_slices<kKept>, {dim3(unsigned(slices), unsigned(rows)), kSliceThreads, 0, stream},
                       Tokens{first_token_, vocab_}, soft_cap_, logits, slice_best_.data(), slice_sums_.data());
    launch_overlapping(merge_slices<kKept>, {unsigned(rows), kMergeThreads<kKept>, 0, stream}, slices, k,
                       slice_best_.data(), slice_sums_.data(), candidates, sums);
  };
  if (k == 1)
    find_best(std::integral_constant<int, 1>());
  else
    find_best(std::integral_constant<int, kMaxCandidates>());
}

}  // namespace pleat::cuda
