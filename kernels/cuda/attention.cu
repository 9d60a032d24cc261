#include "kernels/cuda/attention.h"

#include <algorithm>

#include "kernels/cuda/attention_page.h"

namespace pleat::cuda {
namespace {

constexpr int kAttendThreads = kSplitPages * kWarp;  // a warp a page of the split
constexpr int kCombineWarps = 8;
constexpr int kMostChannels = kWarp * kLaneChannels;

struct AttentionWork {
  const float* q;
  int64_t q_stride;
  PagedRows rows;
  CacheBlocks cache;
  AttentionScores scores;
  HeadGroups groups;
  int q_heads, blocks;  // blocks: to a kv head, each of a few of its query heads
  int splits;           // of a row at most
  bool in_eights;       // see PageView
  float* values;        // [rows, q_heads, splits, head_size] sums of exp(score - highest) value
  SplitSums* sums;      // [rows, q_heads, splits]

  __device__ int64_t part(int row, int q_head, int split) const {
    return (int64_t(row) * q_heads + q_head) * splits + split;
  }
};

// One block a row, split and kHeads query heads of a kv head. Splits are counted from the first one that the row sees.
// Positions and page tables are read before the kernel before has ended: no kernel writes them.
template <class Element, int kLanes, int kHeads>
__global__ void __launch_bounds__(kAttendThreads, 3) attend_splits(AttentionWork work) {
  using Attention = PageAttention<Element, kLanes, kHeads>;
  constexpr int kChannels = kLanes * kLaneChannels, kQuads = kChannels / kQuad;
  __shared__ SharedArray<float, kSplitPages * kPageTokens * kHeads> weights;
  __shared__ SharedArray<float, kSplitPages * kHeads> highest, totals;
  __shared__ SharedArray<float, kSplitPages * Attention::kTokens * kHeads * kChannels> shares;
  const int row = int(blockIdx.x), kv_head = int(blockIdx.y) / work.blocks, split = int(blockIdx.z);
  const int first_head = int(blockIdx.y) % work.blocks * kHeads, page = int(threadIdx.x) / kWarp;
  const int q_head = work.groups.first(kv_head) + first_head;
  const int heads = min(work.groups.count(kv_head) - first_head, kHeads), head_size = work.cache.head_size;
  const int position = work.rows.positions[row];
  const Seen seen = seen_from(position, work.scores.window);
  const bool has_work = position >= 0 && split < seen.splits() && heads > 0;
  const int begin = (seen.first_split() + split) * kSplitTokens + page * kPageTokens;
  const TileRange of_page{max(seen.begin - begin, 0), min(seen.end - begin, kPageTokens)};
  const bool has_page = has_work && of_page.begin < of_page.end;
  const int64_t block = has_page ? block_of(work.cache, work.rows, row, begin, kv_head) : 0;
  let_next_start();
  wait_for_previous();
  if (!has_work) return;

  Attention attention{{work.cache.keys + block, work.cache.values + block, of_page, begin, head_size,
                       work.cache.scale_bytes, work.in_eights},
                      weights.data() + page * kPageTokens * kHeads};
  if (has_page) {
    attention.attend(work.q + row * work.q_stride + int64_t(q_head) * head_size, work.scores, q_head, heads,
                     highest.data() + page * kHeads, totals.data() + page * kHeads);
  } else if (int(threadIdx.x) % kWarp < kHeads) {
    highest[page * kHeads + int(threadIdx.x) % kWarp] = -INFINITY;
    totals[page * kHeads + int(threadIdx.x) % kWarp] = 0;
  }
#pragma unroll
  for (int head = 0; head < kHeads; ++head)
#pragma unroll
    for (int c = 0; c < kLaneChannels; c += kQuad) {
      Quad quad;
#pragma unroll
      for (int i = 0; i < kQuad; ++i) quad.at[i] = attention.out[head][c + i];
      const int share = int(threadIdx.x) / kLanes;
      quad.store(shares.data() + (share * kHeads + head) * kChannels + attention.channel() + c);
    }
  __syncthreads();

  for (int item = int(threadIdx.x); item < heads * kQuads; item += kAttendThreads) {
    const int head = item / kQuads, channel = item % kQuads * kQuad;
    SplitSums sums;
    for (int i = 0; i < kSplitPages; ++i) sums.highest = fmaxf(sums.highest, highest[i * kHeads + head]);
    Quad value{};
#pragma unroll
    for (int i = 0; i < kSplitPages; ++i) {
      const float factor = __expf(highest[i * kHeads + head] - sums.highest);
      sums.total = fmaf(totals[i * kHeads + head], factor, sums.total);
      Quad of_page{};
#pragma unroll
      for (int share = i * Attention::kTokens; share < (i + 1) * Attention::kTokens; ++share)
        of_page = of_page + Quad::load(shares.data() + (share * kHeads + head) * kChannels + channel);
#pragma unroll
      for (int c = 0; c < kQuad; ++c) value.at[c] = fmaf(of_page.at[c], factor, value.at[c]);
    }
    const int64_t part = work.part(row, q_head + head, split);
    if (channel == 0) work.sums[part] = sums;
    float* const to = work.values + part * head_size + channel;
    if (work.in_eights && channel < head_size) {
      value.store(to);
    } else {
      for (int c = 0; c < kQuad; ++c)
        if (channel + c < head_size) to[c] = value.at[c];
    }
  }
}

// One block a row and query head adds its splits, warp w those from w on, kCombineWarps apart; a lane takes kWidth
// neighbouring channels.
template <int kWidth>
__global__ void __launch_bounds__(kCombineWarps* kWarp)
    combine_splits(AttentionWork work, float* out, int64_t out_stride) {
  __shared__ SharedArray<float, kCombineWarps * kMostChannels> shares;
  __shared__ SharedArray<float, kCombineWarps> totals;
  const int row = int(blockIdx.x), q_head = int(blockIdx.y), head_size = work.cache.head_size;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const int position = work.rows.positions[row];
  let_next_start();
  wait_for_previous();
  if (position < 0) return;
  const int splits = seen_from(position, work.scores.window).splits();
  const int64_t first = work.part(row, q_head, 0);
  const SplitSums* const sums = work.sums + first;
  float highest = -INFINITY;
  for (int split = lane; split < splits; split += kWarp) highest = fmaxf(highest, sums[split].highest);
  highest = warp_max(highest);

  float total = 0;
  for (int split = warp; split < splits; split += kCombineWarps)
    total = fmaf(sums[split].total, __expf(sums[split].highest - highest), total);
  if (lane == 0) totals[warp] = total;
  for (int channel = lane * kWidth; channel < head_size; channel += kWarp * kWidth) {
    Floats<kWidth> share{};
#pragma unroll 4
    for (int split = warp; split < splits; split += kCombineWarps) {
      const auto value = Floats<kWidth>::load(work.values + (first + split) * head_size + channel);
      const float factor = __expf(sums[split].highest - highest);
#pragma unroll
      for (int c = 0; c < kWidth; ++c) share.at[c] = fmaf(value.at[c], factor, share.at[c]);
    }
    share.store(shares.data() + warp * kMostChannels + channel);
  }
  __syncthreads();
  for (int channel = int(threadIdx.x); channel < head_size; channel += kCombineWarps * kWarp) {
    float sum = 0, of_all = 0;
#pragma unroll
    for (int i = 0; i < kCombineWarps; ++i) {
      sum += shares[i * kMostChannels + channel];
      of_all += totals[i];
    }
    out[row * out_stride + int64_t(q_head) * head_size + channel] = sum / of_all;
  }
}

int splits_below(int max_positions) { return (max_positions + kSplitTokens - 1) / kSplitTokens; }

// A window of w positions lies in at most this many splits.
int splits_of_window(int64_t window) { return int((window + kSplitTokens - 2) / kSplitTokens) + 1; }

template <class Element, int kLanes>
void attend(AttentionWork work, cudaStream_t stream) {
  const auto launch_for = [&]<int kHeads>(std::integral_constant<int, kHeads>) {
    work.blocks = (work.groups.largest + kHeads - 1) / kHeads;
    launch_overlapping(
        attend_splits<Element, kLanes, kHeads>,
        {dim3(unsigned(work.rows.count), unsigned(work.cache.kv_heads * work.blocks), unsigned(work.splits)),
         kAttendThreads, 0, stream},
        work);
  };
  if (work.groups.largest == 1)
    launch_for(std::integral_constant<int, 1>());
  else
    launch_for(std::integral_constant<int, kHeadsAtOnce>());
}

// Lanes to a token: enough for its channels.
template <class Element>
void attend(const AttentionWork& work, cudaStream_t stream) {
  if (work.cache.head_size <= 8 * kLaneChannels) return attend<Element, 8>(work, stream);
  if (work.cache.head_size <= 16 * kLaneChannels) return attend<Element, 16>(work, stream);
  attend<Element, 32>(work, stream);
}

}  // namespace

size_t attention_work(int rows, int q_heads, int head_size, int max_positions) {
  return size_t(rows) * size_t(q_heads) * size_t(splits_below(max_positions)) * size_t(head_size + 2);
}

void attention(cudaStream_t stream, MatrixView<const float> q, const PagedRows& rows, const KvCache& cache,
               std::span<const int> kv_of_head, const AttentionScores& scores, int max_positions, float* work,
               MatrixView<float> out) {
  const int q_heads = int(kv_of_head.size());
  check_attention(q, rows, cache, kv_of_head, out);
  PLEAT_REQUIRE(cache.head_size <= kMostChannels, "attention's heads have a size of at most ", kMostChannels, ", not ",
                cache.head_size);
  int splits = splits_below(max_positions);
  if (scores.window > 0 && scores.window < max_positions) splits = std::min(splits, splits_of_window(scores.window));
  const int64_t parts = int64_t(rows.count) * q_heads * splits;
  const bool in_eights = cache.head_size % kLaneChannels == 0 && q.stride % kQuad == 0 &&
                         reinterpret_cast<uintptr_t>(q.data) % sizeof(Quad) == 0;
  const AttentionWork all{.q = q.data,
                          .q_stride = q.stride,
                          .rows = rows,
                          .cache = blocks_of(cache),
                          .scores = scores,
                          .groups = {kv_of_head, cache.kv_heads},
                          .q_heads = q_heads,
                          .blocks = 0,
                          .splits = splits,
                          .in_eights = in_eights,
                          .values = work,
                          .sums = reinterpret_cast<SplitSums*>(work + parts * cache.head_size)};
  with_element(cache.dtype, [&]<class Element>(Element) { attend<Element>(all, stream); });
  launch_overlapping(in_eights ? combine_splits<kQuad> : combine_splits<1>,
                     {dim3(unsigned(rows.count), unsigned(q_heads)), kCombineWarps * kWarp, 0, stream}, all, out.data,
                     out.stride);
}

}  // namespace pleat::cuda
