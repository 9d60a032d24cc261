#include "kernels/cuda/candidates.h"

#include <bit>

#include "kernels/cuda/activate.h"
#include "kernels/cuda/best_runs.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = kRunThreads;
constexpr int kSlice = kRunSlots;  // tokens of a block
constexpr int kEach = kSlice / kThreads;

// exp(x - max); inf - inf is nothing.
__device__ float relative_exp(float x, float max) { return x == max ? 1.0f : expf(x - max); }

struct Tokens {
  int first, count;
};

// A block's slice of a row: its best `run` candidates, sorted, and its sum.
//   slice_best [rows, slices, run], slice_sums [rows, slices]
__global__ void __launch_bounds__(kThreads) search_slices(Tokens tokens, int run, float soft_cap, const float* logits,
                                                          Candidate* slice_best, LogitSum* slice_sums) {
  __shared__ RunSlots slots;
  const int begin = int(blockIdx.x) * kSlice;
  const int count = tokens.count - begin < kSlice ? tokens.count - begin : kSlice;
  logits += int64_t(blockIdx.y) * tokens.count + begin;
  float values[kEach];
  int nans = 0;
  for (int each = 0; each < kEach; ++each) {
    const int i = each * kThreads + int(threadIdx.x);
    float value = i < count ? logits[i] : -INFINITY;
    if (soft_cap > 0) value = soft_capped(soft_cap, value);
    if (value != value) {
      value = -INFINITY;
      ++nans;
    }
    values[each] = value;
    slots[i] = i < count ? Candidate{value, tokens.first + begin + i} : no_candidate();
  }
  __syncthreads();
  sort_runs(slots, run);
  keep_best_run(slots, run);

  const int64_t slice = int64_t(blockIdx.y) * gridDim.x + blockIdx.x;
  for (int i = int(threadIdx.x); i < run; i += kThreads) slice_best[slice * run + i] = slots[i];
  const float max = slots[0].value;
  float sum = 0;
  for (int each = 0; each < kEach; ++each)
    if (each * kThreads + int(threadIdx.x) < count) sum += relative_exp(values[each], max);
  sum = block_sum(sum);
  nans = int(block_sum(float(nans)));
  if (threadIdx.x == 0) slice_sums[slice] = {max, sum, nans};
}

// One block a row: the best k of its slices' candidates, and the sum of their sums.
__global__ void __launch_bounds__(kThreads)
    merge_slices(int slices, int run, int k, const Candidate* slice_best, const LogitSum* slice_sums,
                 Candidate* candidates, LogitSum* sums) {
  __shared__ RunSlots slots;
  const int64_t row = blockIdx.x;
  slice_best += row * slices * run;
  slice_sums += row * slices;
  // As many runs at a time as there are slots, the best so far among them.
  int kept = 0;
  for (int next = 0; next < slices * run;) {
    for (int i = kept + int(threadIdx.x); i < kSlice; i += kThreads) {
      const int from = next + i - kept;
      slots[i] = from < slices * run ? slice_best[from] : no_candidate();
    }
    __syncthreads();
    keep_best_run(slots, run);
    next += kSlice - kept;
    kept = run;
  }
  for (int i = int(threadIdx.x); i < k; i += kThreads) candidates[row * k + i] = slots[i];

  const float max = slots[0].value;
  float sum = 0;
  int nans = 0;
  for (int slice = int(threadIdx.x); slice < slices; slice += kThreads) {
    sum += slice_sums[slice].sum * relative_exp(slice_sums[slice].max, max);
    nans += slice_sums[slice].nans;
  }
  sum = block_sum(sum);
  nans = int(block_sum(float(nans)));
  if (threadIdx.x == 0) sums[row] = {max, sum, nans};
}

}  // namespace

CandidateFinder::CandidateFinder(int max_rows, int first_token, int vocab, float soft_cap)
    : max_rows_(max_rows),
      first_token_(first_token),
      vocab_(vocab),
      slices_((vocab + kSlice - 1) / kSlice),
      soft_cap_(soft_cap),
      slice_best_(size_t(max_rows) * size_t(slices_) * kMaxCandidates),
      slice_sums_(size_t(max_rows) * size_t(slices_)) {}

void CandidateFinder::find(cudaStream_t stream, int rows, int k, const float* logits, Candidate* candidates,
                           LogitSum* sums) {
  PLEAT_ASSERT(rows <= max_rows_ && k >= 1 && k <= kMaxCandidates, rows, " rows, ", k, " candidates");
  const int run = int(std::bit_ceil(unsigned(k)));
  launch(search_slices, {dim3(unsigned(slices_), unsigned(rows)), kThreads, 0, stream}, Tokens{first_token_, vocab_},
         run, soft_cap_, logits, slice_best_.data(), slice_sums_.data());
  launch(merge_slices, {unsigned(rows), kThreads, 0, stream}, slices_, run, k, slice_best_.data(), slice_sums_.data(),
         candidates, sums);
}

}  // namespace pleat::cuda
