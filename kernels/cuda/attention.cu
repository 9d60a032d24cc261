#include "kernels/cuda/attention.h"

#include <algorithm>

#include "kernels/cuda/attention_page.h"
#include "kernels/cuda/attention_tensor.h"

namespace pleat::cuda {
namespace {

constexpr int kAttendThreads = kSplitPages * kWarp;  // a warp a page of the split
constexpr int kAttendBlocks = 3;                     // that a processor has room for
constexpr int kBlocksAtOnce = 132 * kAttendBlocks;   // in a large device: with so many, each takes several splits
constexpr int kCombineWarps = 8;
constexpr int kAhead = 4;  // splits of a warp
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

// Adds up what the lanes have of a split's pages, in the pages' order, and writes it: `part` is that of the first head.
//   shares [kSplitPages, kShares, kHeads, kChannels], highest and totals [kSplitPages, kHeads]
template <int kShares, int kHeads, int kChannels>
__device__ void end_split(const AttentionWork& work, int64_t part, int heads, const float* shares, const float* highest,
                          const float* totals) {
  constexpr int kQuads = kChannels / kQuad;
  const int head_size = work.cache.head_size;
  for (int item = int(threadIdx.x); item < heads * kQuads; item += kAttendThreads) {
    const int head = item / kQuads, channel = item % kQuads * kQuad;
    SplitSums sums;
    for (int page = 0; page < kSplitPages; ++page) sums.highest = fmaxf(sums.highest, highest[page * kHeads + head]);
    Quad value{};
#pragma unroll
    for (int page = 0; page < kSplitPages; ++page) {
      const float factor = __expf(highest[page * kHeads + head] - sums.highest);
      sums.total = fmaf(totals[page * kHeads + head], factor, sums.total);
      Quad of_page{};
#pragma unroll
      for (int share = page * kShares; share < (page + 1) * kShares; ++share)
        of_page = of_page + Quad::load(shares + (share * kHeads + head) * kChannels + channel);
#pragma unroll
      for (int c = 0; c < kQuad; ++c) value.at[c] = fmaf(of_page.at[c], factor, value.at[c]);
    }
    const int64_t of_head = part + int64_t(head) * work.splits;
    if (channel == 0) work.sums[of_head] = sums;
    float* const to = work.values + of_head * head_size + channel;
    if (work.in_eights && channel < head_size) {
      value.store(to);
    } else {
      for (int c = 0; c < kQuad; ++c)
        if (channel + c < head_size) to[c] = value.at[c];
    }
  }
}

// A block's splits of a row for a few query heads of a kv head: every gridDim.z-th, counted from the first one that
// the row sees. A split's keys and values are on their way while the one before is computed with. Positions and page
// tables are read before the kernel before has ended: no kernel writes them.
template <class Attention>
__global__ void __launch_bounds__(kAttendThreads, kAttendBlocks) attend_splits(AttentionWork work) {
  constexpr int kHeads = Attention::kQueryHeads, kChannels = Attention::kChannels, kShares = Attention::kShares;
  __shared__ SharedArray<float, kSplitPages * Attention::kWeights> weights;
  __shared__ SharedArray<float, kSplitPages * kHeads> highest, totals;
  __shared__ SharedArray<float, kSplitPages * kShares * kHeads * kChannels> shares;
  const int row = int(blockIdx.x), kv_head = int(blockIdx.y) / work.blocks;
  const int first_head = int(blockIdx.y) % work.blocks * kHeads, warp = int(threadIdx.x) / kWarp;
  const int q_head = work.groups.first(kv_head) + first_head;
  const int heads = min(work.groups.count(kv_head) - first_head, kHeads), head_size = work.cache.head_size;
  const int position = work.rows.positions[row];
  const Seen seen = seen_from(position, work.scores.window);
  const int splits = position >= 0 && heads > 0 ? seen.splits() : 0;
  // The warp's page of a split, if there is one.
  const auto page_of = [&](int split) {
    PageView page;
    if (split >= splits) return page;
    page.position = (seen.first_split() + split) * kSplitTokens + warp * kPageTokens;
    page.seen = {max(seen.begin - page.position, 0), min(seen.end - page.position, kPageTokens)};
    if (page.is_seen()) page.block = block_of(work.cache, work.rows, row, page.position, kv_head);
    return page;
  };
  PageView page = page_of(int(blockIdx.z));
  let_next_start();
  wait_for_previous();
  if (int(blockIdx.z) >= splits) return;

  Attention attention({work.cache.keys, work.cache.values, head_size, work.cache.scale_bytes, work.in_eights},
                      weights.data() + warp * Attention::kWeights);
  typename Attention::Keys keys;
  typename Attention::Values values;
  attention.load_keys(page, keys);
  attention.load_values(page, values);
  attention.load_queries(work.q + row * work.q_stride + int64_t(q_head) * head_size, heads, work.scores.scale);
  for (int split = int(blockIdx.z); split < splits; split += int(gridDim.z)) {
    const PageView next = page_of(split + int(gridDim.z));
    float* const page_highest = highest.data() + warp * kHeads;
    float* const page_total = totals.data() + warp * kHeads;
    attention.clear();
    if (page.is_seen())
      attention.find_weights(page, keys, work.scores, q_head, heads, page_highest, page_total);
    else if (int(threadIdx.x) % kWarp < kHeads)
      page_highest[threadIdx.x % kWarp] = -INFINITY, page_total[threadIdx.x % kWarp] = 0;
    attention.load_keys(next, keys);
    if (page.is_seen()) attention.add_up_values(page, values);
    attention.load_values(next, values);
    attention.store(shares.data() + warp * kShares * kHeads * kChannels);
    __syncthreads();
    end_split<kShares, kHeads, kChannels>(work, work.part(row, q_head, split), heads, shares.data(), highest.data(),
                                          totals.data());
    __syncthreads();
    page = next;
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
  const auto value_of = [&](int split, int channel) {
    return Floats<kWidth>::load(work.values + (first + split) * head_size + channel);
  };
  // The first values are on their way while factors are found.
  Floats<kWidth> ahead[kAhead];
  const auto load_ahead = [&](int channel) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int split = warp + i * kCombineWarps;
      if (split < splits && channel < head_size) ahead[i] = value_of(split, channel);
    }
  };
  load_ahead(lane * kWidth);
  float highest = -INFINITY;
  for (int split = lane; split < splits; split += kWarp) highest = fmaxf(highest, sums[split].highest);
  highest = warp_max(highest);

  float total = 0;
  for (int split = warp; split < splits; split += kCombineWarps)
    total = fmaf(sums[split].total, __expf(sums[split].highest - highest), total);
  if (lane == 0) totals[warp] = total;
  for (int channel = lane * kWidth; channel < head_size; channel += kWarp * kWidth) {
    Floats<kWidth> share{};
    const auto add = [&](int split, const Floats<kWidth>& value) {
      const float factor = __expf(sums[split].highest - highest);
#pragma unroll
      for (int c = 0; c < kWidth; ++c) share.at[c] = fmaf(value.at[c], factor, share.at[c]);
    };
    if (channel >= kWarp * kWidth) load_ahead(channel);
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (warp + i * kCombineWarps < splits) add(warp + i * kCombineWarps, ahead[i]);
#pragma unroll 4
    for (int split = warp + kAhead * kCombineWarps; split < splits; split += kCombineWarps)
      add(split, value_of(split, channel));
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

template <class Attention>
void attend_with(AttentionWork work, cudaStream_t stream) {
  work.blocks = (work.groups.largest + Attention::kQueryHeads - 1) / Attention::kQueryHeads;
  const int heads = work.cache.kv_heads * work.blocks;
  const int splits = std::clamp(kBlocksAtOnce / (work.rows.count * heads), 1, work.splits);
  launch_overlapping(attend_splits<Attention>,
                     {dim3(unsigned(work.rows.count), unsigned(heads), unsigned(splits)), kAttendThreads, 0, stream},
                     work);
}

// How follows from the cache alone, not from how many heads a rank has.
template <class Element>
void attend(const AttentionWork& work, cudaStream_t stream) {
  const int head_size = work.cache.head_size;
  if constexpr (sizeof(Element) < sizeof(float)) {
    if (work.in_eights && head_size == 64) return attend_with<TensorAttention<Element, 1>>(work, stream);
    if (work.in_eights && head_size == 128) return attend_with<TensorAttention<Element, 2>>(work, stream);
  }
  if (head_size <= 8 * kLaneChannels) return attend_with<PageAttention<Element, 8, kHeadsAtOnce>>(work, stream);
  if (head_size <= 16 * kLaneChannels) return attend_with<PageAttention<Element, 16, kHeadsAtOnce>>(work, stream);
  attend_with<PageAttention<Element, 32, kHeadsAtOnce>>(work, stream);
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
