#include "kernels/cuda/attention.h"

#include <algorithm>

#include "kernels/cuda/attention_tile.h"

namespace pleat::cuda {
namespace {

constexpr int kSplitTokens = kSplitPages * kPageTokens;
constexpr int kCombineThreads = 128;
constexpr int kMaxKvHeads = 256;
constexpr int kHeadsAtOnce = 4;                // query heads that a thread takes where there are several
constexpr size_t kSharedBytes = 160u * 1024u;  // of a block, which every device from sm_80 on allows

// What a row sees: positions [begin, end), and the sequence's splits that hold any of them.
struct Seen {
  int begin, end;
  __device__ int first_split() const { return begin / kSplitTokens; }
  __device__ int splits() const { return (end - 1) / kSplitTokens + 1 - first_split(); }
};
__device__ Seen seen_from(int position, int64_t window) {
  return {window > 0 && position >= window ? int(position - window) + 1 : 0, position + 1};
}

struct AttentionWork {
  const float* q;
  int64_t q_stride;
  PagedRows rows;
  CacheBlocks cache;
  AttentionScores scores;
  TileShape shape;
  float* parts;                        // [rows, q_heads, splits, head_size + 2] sums of values, highest score, total
  int q_heads, splits;                 // splits: of a row at most
  uint16_t heads_of[kMaxKvHeads + 1];  // kv head g is read by query heads [heads_of[g], heads_of[g + 1])

  __device__ float* part(int row, int q_head, int split) const {
    return parts + ((int64_t(row) * q_heads + q_head) * splits + split) * (cache.head_size + 2);
  }
};

// Queries scaled and filled up with zeros, nothing attended.
__device__ void begin_heads(const AttentionWork& work, const TileMemory& memory, int row, int q_head, int heads) {
  const int padded = work.shape.quads() * kQuad, head_size = work.cache.head_size;
  for (int i = int(threadIdx.x); i < work.shape.heads * padded; i += kAttentionThreads) {
    const int head = i / padded, channel = i % padded;
    const float* const q = work.q + row * work.q_stride + int64_t(q_head + head) * head_size;
    memory.q[i] = head < heads && channel < head_size ? q[channel] * work.scores.scale : 0.0f;
    memory.out[i] = 0;
  }
  for (int head = int(threadIdx.x); head < work.shape.heads; head += kAttentionThreads) {
    memory.highest[head] = -INFINITY;
    memory.total[head] = memory.shrink[head] = 0;
  }
}

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
__global__ void __launch_bounds__(kAttentionThreads) attend_splits(AttentionWork work) {
  const int row = int(blockIdx.x), kv_head = int(blockIdx.y), split = int(blockIdx.z);
  const int position = work.rows.positions[row];
  if (position < 0) return;
  const Seen seen = seen_from(position, work.scores.window);
  const int q_head = work.heads_of[kv_head], heads = work.heads_of[kv_head + 1] - q_head;
  if (split >= seen.splits() || heads == 0) return;

  const TileMemory memory(work.shape);
  begin_heads(work, memory, row, q_head, heads);
  if constexpr (kRun == 1)  // the last quad's channels that no copy writes
    for (int i = int(threadIdx.x); i < int(2 * work.shape.tile_floats()); i += kAttentionThreads) memory.keys[i] = 0;
  const int split_begin = (seen.first_split() + split) * kSplitTokens;
  const int first = max(seen.begin, split_begin), last = min(seen.end, split_begin + kSplitTokens);
  for (int tile = first / kTile * kTile; tile < last; tile += kTile) {
    const int begin = max(first - tile, 0), end = min(last - tile, kTile);
    const int first_page = begin / kPageTokens, end_page = (end - 1) / kPageTokens + 1;
    __syncthreads();
    copy_tile<Element, kRun>(work.cache, work.cache.keys, work.rows, row, kv_head, tile, first_page, end_page,
                             work.shape, memory.keys);
    copy_tile<Element, kRun>(work.cache, work.cache.values, work.rows, row, kv_head, tile, first_page, end_page,
                             work.shape, memory.values);
    __syncthreads();
    score_tile<kHeads>(memory, work.shape, begin, end, tile, work.scores, q_head, heads);
    __syncthreads();
    weigh_tile(memory, work.shape, begin, end, heads);
    __syncthreads();
    add_values<kHeads>(memory, work.shape, begin, end);
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
  float highest = -INFINITY;
  for (int split = 0; split < splits; ++split) highest = fmaxf(highest, work.part(row, q_head, split)[head_size]);
  for (int channel = int(threadIdx.x); channel < head_size; channel += kCombineThreads) {
    float sum = 0, total = 0;
    for (int split = 0; split < splits; ++split) {
      const float* const part = work.part(row, q_head, split);
      const float weight = __expf(part[head_size] - highest);
      sum += weight * part[channel];
      total += weight * part[head_size + 1];
    }
    out[row * out_stride + int64_t(q_head) * head_size + channel] = sum / total;
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
  PLEAT_ASSERT(q.rows == rows.count && out.rows == rows.count, q.rows, " queries, ", out.rows, " outputs, ", rows.count,
               " rows");
  PLEAT_ASSERT(q.cols == int64_t(q_heads) * cache.head_size && out.cols == q.cols, q.cols, " columns for ", q_heads,
               " heads of ", cache.head_size);
  PLEAT_ASSERT(cache.kv_heads <= kMaxKvHeads && q_heads <= UINT16_MAX, cache.kv_heads, " kv heads");
  PLEAT_ASSERT(std::is_sorted(kv_of_head.begin(), kv_of_head.end()));
  AttentionWork all{.q = q.data,
                    .q_stride = q.stride,
                    .rows = rows,
                    .cache = blocks_of(cache),
                    .scores = scores,
                    .shape = {1, cache.head_size},
                    .parts = work,
                    .q_heads = q_heads,
                    .splits = splits_below(max_positions),
                    .heads_of = {}};
  if (scores.window > 0 && scores.window < max_positions)
    all.splits = std::min(all.splits, splits_of_window(scores.window));
  for (int head = 0; head <= cache.kv_heads; ++head)
    all.heads_of[head] = uint16_t(std::lower_bound(kv_of_head.begin(), kv_of_head.end(), head) - kv_of_head.begin());
  for (int head = 0; head < cache.kv_heads; ++head)
    all.shape.heads = std::max(all.shape.heads, all.heads_of[head + 1] - all.heads_of[head]);
  if (all.shape.heads > 1) all.shape.heads = (all.shape.heads + kHeadsAtOnce - 1) / kHeadsAtOnce * kHeadsAtOnce;
  PLEAT_REQUIRE(all.shape.shared_bytes() <= kSharedBytes, all.shape.heads, " query heads of size ", cache.head_size,
                " to a kv head need ", all.shape.shared_bytes(), " bytes of shared memory, not ", kSharedBytes);

  with_element(cache.dtype, [&]<class Element>(Element) {
    if (cache.head_size % kQuad == 0)
      attend<Element, kQuad>(all, stream);
    else
      attend<Element, 1>(all, stream);
  });
  launch(combine_splits, {dim3(unsigned(rows.count), unsigned(q_heads)), kCombineThreads, 0, stream}, all, out.data,
         out.stride);
}

}  // namespace pleat::cuda
