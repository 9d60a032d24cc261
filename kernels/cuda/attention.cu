#include "kernels/cuda/attention.h"

#include <algorithm>

#include "kernels/cuda/attention_rows.h"

namespace pleat::cuda {
namespace {

constexpr int kCombineThreads = 128;

struct AttentionWork {
  const float* q;
  int64_t q_stride;
  PagedRows rows;
  CacheBlocks cache;
  AttentionScores scores;
  HeadGroups groups;
  TileShape shape;
  float* parts;         // [rows, q_heads, splits, head_size + 2] sums of values, highest score, total
  int q_heads, splits;  // splits: of a row at most

  __device__ float* part(int row, int q_head, int split) const {
    return parts + ((int64_t(row) * q_heads + q_head) * splits + split) * (cache.head_size + 2);
  }
};

__device__ void end_heads(const AttentionWork& work, const TileMemory& memory, int row, int q_head, int heads,
                          int split) {
  const int head_size = work.cache.head_size;
  for (int i = int(threadIdx.x); i < heads * head_size; i += kAttentionThreads) {
    const int head = i / head_size, channel = i % head_size;
    work.part(row, q_head + head, split)[channel] = memory.out[head * work.shape.quads() * kQuad + channel];
  }
  for (int head = int(threadIdx.x); head < heads; head += kAttentionThreads) {
    float* const part = work.part(row, q_head + head, split);
    part[head_size] = memory.highest[head];
    part[head_size + 1] = memory.total[head];
  }
}

// One block a row, kv head and split. Splits are counted from the first one that the row sees.
template <class Element, int kRun, int kHeads>
__global__ void __launch_bounds__(kAttentionThreads, 4) attend_splits(AttentionWork work) {
  const int row = int(blockIdx.x), kv_head = int(blockIdx.y), split = int(blockIdx.z);
  const int position = work.rows.positions[row];
  if (position < 0) return;
  const Seen seen = seen_from(position, work.scores.window);
  const int q_head = work.groups.first(kv_head), heads = work.groups.count(kv_head);
  if (split >= seen.splits() || heads == 0) return;

  const TileMemory memory(work.shape);
  load_queries(memory, work.shape, heads, work.scores.scale,
               [&](int head) { return work.q + row * work.q_stride + int64_t(q_head + head) * work.cache.head_size; });
  clear_heads(memory, work.shape);
  if constexpr (kRun == 1) clear_tile(memory, work.shape);
  const int split_begin = (seen.first_split() + split) * kSplitTokens;
  const int first = max(seen.begin, split_begin), last = min(seen.end, split_begin + kSplitTokens);
  for (int tile = first / kTile * kTile; tile < last; tile += kTile) {
    const TileRange range{max(first - tile, 0), min(last - tile, kTile)};
    attend_tile<Element, kRun, kHeads>(
        work.cache, work.rows, row, kv_head, tile, range, work.scores, work.shape, memory, heads,
        [&](int head) { return q_head + head; }, [&](int) { return range; });
  }
  __syncthreads();
  end_heads(work, memory, row, q_head, heads, split);
}

// One block a row and query head adds its splits in their order.
__global__ void __launch_bounds__(kCombineThreads) combine_splits(AttentionWork work, float* out, int64_t out_stride) {
  const int row = int(blockIdx.x), q_head = int(blockIdx.y), head_size = work.cache.head_size;
  const int position = work.rows.positions[row];
  if (position < 0) return;
  const int splits = seen_from(position, work.scores.window).splits();
  for (int channel = int(threadIdx.x); channel < head_size; channel += kCombineThreads) {
    SplitSums sums;
    float sum = 0;
    for (int split = 0; split < splits; ++split) {
      const float* const part = work.part(row, q_head, split);
      sum = sums.add(part[head_size], part[head_size + 1]).sum(sum, part[channel]);
    }
    out[row * out_stride + int64_t(q_head) * head_size + channel] = sum / sums.total;
  }
}

int splits_below(int max_positions) { return (max_positions + kSplitTokens - 1) / kSplitTokens; }

// A window of w positions lies in at most this many splits.
int splits_of_window(int64_t window) { return int((window + kSplitTokens - 2) / kSplitTokens) + 1; }

template <class Element, int kRun>
void attend(const AttentionWork& work, cudaStream_t stream) {
  const Launch how{dim3(unsigned(work.rows.count), unsigned(work.cache.kv_heads), unsigned(work.splits)),
                   kAttentionThreads, work.shape.shared_bytes(), stream};
  if (work.shape.heads == 1)
    launch(attend_splits<Element, kRun, 1>, how, work);
  else
    launch(attend_splits<Element, kRun, kHeadsAtOnce>, how, work);
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
  AttentionWork all{.q = q.data,
                    .q_stride = q.stride,
                    .rows = rows,
                    .cache = blocks_of(cache),
                    .scores = scores,
                    .groups = {kv_of_head, cache.kv_heads},
                    .shape = {1, cache.head_size},
                    .parts = work,
                    .q_heads = q_heads,
                    .splits = splits_below(max_positions)};
  if (scores.window > 0 && scores.window < max_positions)
    all.splits = std::min(all.splits, splits_of_window(scores.window));
  if (all.groups.largest > 1) all.shape.heads = padded_heads(all.groups.largest);
  check_shared_bytes(all.shape.shared_bytes(), all.shape.heads, cache.head_size);

  with_reads_of(cache, [&]<class Element>(Element, auto run) { attend<Element, run()>(all, stream); });
  launch(combine_splits, {dim3(unsigned(rows.count), unsigned(q_heads)), kCombineThreads, 0, stream}, all, out.data,
         out.stride);
}

}  // namespace pleat::cuda
