#include <algorithm>
#include <climits>

#include "kernels/cuda/prefill_attention_kernels.h"

namespace pleat::cuda {
namespace {

constexpr int kHeadsTogether = 32;  // of all rows that a block attends together, where they fit into shared memory
constexpr size_t kMostShared = 160 << 10;  // of a block, where the device has as much

struct PlainWork : PrefillWork {
  TileShape shape;  // its heads: those of a kv head, row by row
  int block_rows;

  size_t shared_bytes() const {
    return shape.shared_bytes() + size_t(shape.heads) * (sizeof(SplitSums) + sizeof(SplitSums::Factors)) +
           size_t(block_rows) * sizeof(Seen);
  }
};

struct PlainMemory {
  TileMemory tile;              // of one split
  SplitSums* sums;              // [heads] of the splits so far
  SplitSums::Factors* factors;  // [heads] of these and the last one
  Seen* seen;                   // [block_rows]

  __device__ explicit PlainMemory(const TileShape& shape) : tile(shape) {
    sums = reinterpret_cast<SplitSums*>(tile.shrink + shape.heads);
    factors = reinterpret_cast<SplitSums::Factors*>(sums + shape.heads);
    seen = reinterpret_cast<Seen*>(factors + shape.heads);
  }
};

// Rows [first, first + rows), with one page table, in one kv head.
struct Run {
  int first, rows, kv_head, q_head, group;  // group: query heads of the kv head, from q_head on

  __device__ int heads() const { return rows * group; }
  // Where the query, and the output, of the tile's `head` begin in a row-major matrix.
  __device__ int64_t at(int head, int64_t stride, int head_size) const {
    return (first + head / group) * stride + int64_t(q_head + head % group) * head_size;
  }
};

// Puts down what each row sees; returns what any does. A row that nobody is in sees nothing.
__device__ Seen see(const PlainWork& work, const PlainMemory& memory, const Run& run) {
  Seen all{INT_MAX, 0};
  for (int row = 0; row < run.rows; ++row) {
    const int position = work.rows.positions[run.first + row];
    const Seen seen = position < 0 ? Seen{0, 0} : seen_from(position, work.scores.window);
    if (int(threadIdx.x) == row) memory.seen[row] = seen;
    if (seen.end == 0) continue;
    all.begin = min(all.begin, seen.begin);
    all.end = max(all.end, seen.end);
  }
  return all;
}

// Adds a split's sums of values to those before it, which lie in `out`. A thread keeps to its own elements.
__device__ void end_split(const PlainWork& work, const PlainMemory& memory, const Run& run) {
  const int head_size = work.cache.head_size;
  __syncthreads();
  for (int head = int(threadIdx.x); head < run.heads(); head += kAttentionThreads)
    if (memory.tile.total[head] != 0)
      memory.factors[head] = memory.sums[head].add(memory.tile.highest[head], memory.tile.total[head]);
  __syncthreads();
  for (int i = int(threadIdx.x); i < run.heads() * head_size; i += kAttentionThreads) {
    const int head = i / head_size, channel = i % head_size;
    if (memory.tile.total[head] == 0) continue;
    const SplitSums::Factors factors = memory.factors[head];
    float& out = work.out[run.at(head, work.out_stride, head_size) + channel];
    const float so_far = factors.before == 0 ? 0.0f : out;  // nothing is there before the first
    out = factors.sum(so_far, memory.tile.out[head * work.shape.quads() * kQuad + channel]);
  }
  __syncthreads();
}

__device__ void end_run(const PlainWork& work, const PlainMemory& memory, const Run& run) {
  const int head_size = work.cache.head_size;
  for (int i = int(threadIdx.x); i < run.heads() * head_size; i += kAttentionThreads) {
    const int head = i / head_size, channel = i % head_size;
    if (memory.seen[head / run.group].end > 0)
      work.out[run.at(head, work.out_stride, head_size) + channel] /= memory.sums[head].total;
  }
  __syncthreads();
}

template <class Element, int kRun>
__device__ void attend_run(const PlainWork& work, const PlainMemory& memory, const Run& run) {
  const Seen all = see(work, memory, run);
  load_queries(memory.tile, work.shape, run.heads(), work.scores.scale,
               [&](int head) { return work.q + run.at(head, work.q_stride, work.cache.head_size); });
  for (int head = int(threadIdx.x); head < run.heads(); head += kAttentionThreads) memory.sums[head] = SplitSums();
  __syncthreads();
  for (int begin = all.begin / kSplitTokens * kSplitTokens; begin < all.end; begin += kSplitTokens) {
    clear_heads(memory.tile, work.shape);
    const int first = max(all.begin, begin), last = min(all.end, begin + kSplitTokens);
    for (int tile = first / kTile * kTile; tile < last; tile += kTile)
      attend_tile<Element, kRun, kHeadsAtOnce>(
          work.cache, work.rows, run.first, run.kv_head, tile, {max(first - tile, 0), min(last - tile, kTile)},
          work.scores, work.shape, memory.tile, run.heads(), [&](int head) { return run.q_head + head % run.group; },
          [&](int head) {
            const Seen seen = memory.seen[head / run.group];
            return TileRange{max(seen.begin - tile, 0), min(seen.end - tile, kTile)};
          });
    end_split(work, memory, run);
  }
  end_run(work, memory, run);
}

// A block a kv head and block_rows rows, those of the latest positions, which have most to do, first.
template <class Element, int kRun>
__global__ void __launch_bounds__(kAttentionThreads) attend_rows(PlainWork work) {
  const int kv_head = int(blockIdx.y), first = int(gridDim.x - 1 - blockIdx.x) * work.block_rows;
  const int end = min(first + work.block_rows, work.rows.count);
  const int q_head = work.groups.first(kv_head), group = work.groups.count(kv_head);
  if (group == 0) return;
  const PlainMemory memory(work.shape);
  if constexpr (kRun == 1) clear_tile(memory.tile, work.shape);
  for (int row = first, next; row < end; row = next) {
    for (next = row + 1; next < end && work.rows.page_table_of[next] == work.rows.page_table_of[row];) ++next;
    attend_run<Element, kRun>(work, memory, {row, next - row, kv_head, q_head, group});
  }
}

template <class Element, int kRun>
void attend(const PlainWork& work, cudaStream_t stream) {
  const int blocks = (work.rows.count + work.block_rows - 1) / work.block_rows;
  launch(attend_rows<Element, kRun>,
         {dim3(unsigned(blocks), unsigned(work.cache.kv_heads)), kAttentionThreads, work.shared_bytes(), stream}, work);
}

}  // namespace

void prefill_attention_plain(cudaStream_t stream, const KvCache& cache, const PrefillWork& of) {
  PlainWork work{of, {0, cache.head_size}, 0};
  const auto take_rows = [&](int count) {
    work.block_rows = count;
    work.shape.heads = padded_heads(count * work.groups.largest);
  };
  take_rows(std::max(1, kHeadsTogether / std::max(1, work.groups.largest)));
  const size_t room = std::min(kMostShared, most_shared_memory());
  while (work.block_rows > 1 && work.shared_bytes() > room) take_rows(work.block_rows - 1);
  PLEAT_REQUIRE(work.shared_bytes() <= room, work.groups.largest, " query heads of size ", cache.head_size,
                " to a kv head need ", work.shared_bytes(), " bytes of shared memory, not ", room);

  with_reads_of(cache, [&]<class Element>(Element, auto run) { attend<Element, run()>(work, stream); });
}

}  // namespace pleat::cuda
