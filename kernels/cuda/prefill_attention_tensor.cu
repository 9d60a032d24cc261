// Attention of prompts on tensor cores (FlashAttention-2, https://arxiv.org/abs/2307.08691). An item is a row in one
// query head. A block takes 64 items of a kv head, 16 a warp, over blocks of 64 keys that begin at multiples of 64
// positions, in their order: an item's bits depend on its position alone. Keys and values are exact in bf16; queries
// and weights are split in two.
#include <climits>

#include "async_copy.h"
#include "kernels/cuda/prefill_attention_kernels.h"
#include "kernels/cuda/split_bf16.h"
#include "tensor_core.h"

namespace pleat::cuda {
namespace {

constexpr int kItems = 64, kWarpItems = 16, kThreads = kItems / kWarpItems * kWarp;
constexpr int kKeys = 64;
constexpr int kMostSteps = 16;  // of a head, each of 16 channels

// Rows of a head's channels in bf16, filled up with zeros. A row is an odd number of pieces of 16 bytes: the same piece
// of 8 rows lies in all 32 banks.
template <int kSteps>
struct TileRows {
  static constexpr int kPieces = 2 * kSteps, kPieceChannels = kPieceBytes / 2;
  static constexpr int kPitch = (kPieces + 1) * kPieceBytes;
  unsigned char* data;

  __device__ unsigned char* piece(int row, int piece) const { return data + row * kPitch + piece * kPieceBytes; }
  __device__ unsigned& pair(int row, int pair) const { return reinterpret_cast<unsigned*>(data + row * kPitch)[pair]; }
};

template <int kSteps>
struct TensorMemory {
  using Rows = TileRows<kSteps>;
  static constexpr size_t kBytes = size_t(2 * kItems + 2 * kKeys) * Rows::kPitch + 2 * kKeys * sizeof(float);
  Rows q_high, q_low;  // [kItems] times the scale
  Rows keys, values;   // [kKeys]
  float* key_scales;   // [kKeys], of 8 bits
  float* value_scales;

  __device__ TensorMemory() {
    q_high.data = dynamic_shared<unsigned char>();
    q_low.data = q_high.data + kItems * Rows::kPitch;
    keys.data = q_low.data + kItems * Rows::kPitch;
    values.data = keys.data + kKeys * Rows::kPitch;
    key_scales = reinterpret_cast<float*>(values.data + kKeys * Rows::kPitch);
    value_scales = key_scales + kKeys;
  }
};

// Of a kv head: item i is row i / group in query head q_head + i % group.
struct Tile {
  int kv_head, q_head, group, first, items;  // items: of the kv head, of which the tile has [first, first + kItems)

  __device__ int row(int item) const { return item / group; }
  __device__ int head(int item) const { return q_head + item % group; }
  __device__ int end_row() const { return (min(first + kItems, items) + group - 1) / group; }
};

__device__ int warp_least(int value) {
  for (int with = kWarp / 2; with > 0; with /= 2) value = min(value, __shfl_xor_sync(~0u, value, with));
  return value;
}

__device__ Seen seen_by(const PrefillWork& work, int row) {
  const int position = work.rows.positions[row];
  return position < 0 ? Seen{0, 0} : seen_from(position, work.scores.window);
}

// What either sees.
__device__ Seen joined(const Seen& a, const Seen& b) {
  if (a.end == 0 || b.end == 0) return a.end == 0 ? b : a;
  return {min(a.begin, b.begin), max(a.end, b.end)};
}

// What any lane's sees.
__device__ Seen warp_joined(const Seen& mine) {
  const int begin = warp_least(mine.end == 0 ? INT_MAX : mine.begin), end = -warp_least(-mine.end);
  return {end == 0 ? 0 : begin, end};
}

// Rows [first, end), which have one page table, and what any of them sees.
struct PageRun {
  int first, end;
  Seen seen;
};

// The run that begins with row `first`. A lane looks at two rows: a tile has no more than 64.
__device__ PageRun run_from(const PrefillWork& work, int first, int end) {
  static_assert(kItems == 2 * kWarp);
  const int lane = int(threadIdx.x) % kWarp, table = work.rows.page_table_of[first];
  for (int row = first + lane; row < end; row += kWarp)
    if (work.rows.page_table_of[row] != table) end = row;
  end = warp_least(end);
  Seen seen{0, 0};
  for (int row = first + lane; row < end; row += kWarp) seen = joined(seen, seen_by(work, row));
  return {first, end, warp_joined(seen)};
}

template <int kSteps>
__device__ void store_queries(const PrefillWork& work, const TensorMemory<kSteps>& memory, const Tile& tile) {
  const int lane = int(threadIdx.x) % kWarp, head_size = work.cache.head_size;
  for (int i = int(threadIdx.x) / kWarp; i < kItems; i += kThreads / kWarp) {
    const int item = tile.first + i;
    const float* const q = work.q + tile.row(item) * work.q_stride + int64_t(tile.head(item)) * head_size;
    for (int pair = lane; pair < 8 * kSteps; pair += kWarp) {
      const bool exists = item < tile.items && 2 * pair < head_size;
      const SplitPair split =
          exists ? split_pair(q[2 * pair] * work.scores.scale, q[2 * pair + 1] * work.scores.scale) : SplitPair{0, 0};
      memory.q_high.pair(i, pair) = split.high;
      memory.q_low.pair(i, pair) = split.low;
    }
  }
}

// Where channels are left that no copy writes.
template <int kSteps>
__device__ void clear_keys_and_values(const TensorMemory<kSteps>& memory) {
  constexpr int kPairs = 2 * kKeys * TileRows<kSteps>::kPitch / 4;  // values stand behind keys
  for (int i = int(threadIdx.x); i < kPairs; i += kThreads) memory.keys.pair(0, i) = 0;
}

// 8 codes in bf16.
__device__ uint4 widened(const uint2& codes) {
  const auto two = [](unsigned word, int first) {
    return bf16_pair(float(int8_t(word >> first)), float(int8_t(word >> (first + 8))));
  };
  return make_uint4(two(codes.x, 0), two(codes.x, 16), two(codes.y, 0), two(codes.y, 16));
}

// Keys or values of positions [begin, begin + kKeys) on their way to `to`, zeros where `seen` does not have them. In 8
// bits they are there at once.
template <class Element, int kSteps>
__device__ void start_tokens(const CacheBlocks& cache, const unsigned char* cached, const int32_t* pages, int kv_head,
                             int begin, const Seen& seen, const TileRows<kSteps>& to, float* scales) {
  constexpr int kPieces = TileRows<kSteps>::kPieces, kChannels = TileRows<kSteps>::kPieceChannels;
  constexpr int kPages = kKeys / kPageTokens, kPagePieces = kPageTokens * kPieces;
  const unsigned char* blocks[kPages];
#pragma unroll
  for (int i = 0; i < kPages; ++i) {
    const int page = min(begin / kPageTokens + i, (seen.end - 1) / kPageTokens);  // one that there is
    blocks[i] = cached + (int64_t(pages[page]) * cache.kv_heads + kv_head) * cache.block_bytes;
  }
  const auto is_seen = [&](int token) { return begin + token >= seen.begin && begin + token < seen.end; };
#pragma unroll
  for (int i = 0; i < kPages; ++i)
#pragma unroll
    for (int n = 0; n < (kPagePieces + kThreads - 1) / kThreads; ++n) {
      const int at = n * kThreads + int(threadIdx.x), token = at / kPieces, piece = at % kPieces;
      if (kPagePieces % kThreads != 0 && at >= kPagePieces) break;
      if (piece * kChannels >= cache.head_size) continue;
      const unsigned char* const from =
          blocks[i] + cache.scale_bytes + (token * cache.head_size + piece * kChannels) * int(sizeof(Element));
      unsigned char* const there = to.piece(i * kPageTokens + token, piece);
      const bool seen_here = is_seen(i * kPageTokens + token);
      if constexpr (sizeof(Element) == 2)
        copy_async<kPieceBytes>(there, from, seen_here ? kPieceBytes : 0);
      else
        *reinterpret_cast<uint4*>(there) =
            seen_here ? widened(__ldg(reinterpret_cast<const uint2*>(from))) : make_uint4(0, 0, 0, 0);
    }
  if (sizeof(Element) == 1 && int(threadIdx.x) < kKeys) {
    const int token = int(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kPages; ++i)
      if (token / kPageTokens == i)
        scales[token] = is_seen(token) ? reinterpret_cast<const float*>(blocks[i])[token % kPageTokens] : 0.0f;
  }
}

// What a lane holds of its warp's items, those of rows l / 4 and 8 below of the fragments.
template <int kSteps>
struct LaneItems {
  int row[2], head[2];
  Seen seen[2];
  float highest[2] = {-INFINITY, -INFINITY};  // score so far
  float total[2] = {};                        // sum of exp(score - highest) of this lane's keys
  float out[2 * kSteps][4] = {};              // sums of exp(score - highest) value

  __device__ LaneItems(const PrefillWork& work, const Tile& tile) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int item = tile.first + int(threadIdx.x) / kWarp * kWarpItems + int(threadIdx.x) % kWarp / 4 + 8 * r;
      row[r] = tile.row(item);
      head[r] = tile.head(item);
      seen[r] = item < tile.items ? seen_by(work, row[r]) : Seen{0, 0};
    }
  }
  // Of a run's rows.
  __device__ Seen seen_in(const PageRun& run, int r) const {
    return row[r] >= run.first && row[r] < run.end ? seen[r] : Seen{0, 0};
  }
};

// Fragment n's are of keys 8 n + 2 (l % 4) and the next, [2] and [3] of the second row.
using Scores = float[kKeys / 8][4];

__device__ int key_of(int fragment, int element) { return 8 * fragment + int(threadIdx.x) % 4 * 2 + element % 2; }

// Calls use(fragment, element) for each of a lane's scores.
template <class Use>
__device__ void for_scores(Use use) {
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) use(n, e);
}

// The products of the warp's queries with the keys.
template <int kSteps>
__device__ void multiply_keys(const TensorMemory<kSteps>& memory, Scores& scores) {
  const int lane = int(threadIdx.x) % kWarp, first = int(threadIdx.x) / kWarp * kWarpItems;
  for_scores([&](int n, int e) { scores[n][e] = 0; });
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    unsigned keys[kKeys / 8][2];
#pragma unroll
    for (int pair = 0; pair < kKeys / 16; ++pair) {
      unsigned words[4];
      load_matrices(words, memory.keys.piece(16 * pair + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < 4; ++i) keys[2 * pair + i / 2][i % 2] = words[i];
    }
    const auto add = [&](const TileRows<kSteps>& part) {
      unsigned q[4];
      load_matrices(q, part.piece(first + lane % 16, 2 * step + lane / 16));
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) multiply_add(scores[n], q, keys[n]);
    };
    add(memory.q_high);
    add(memory.q_low);
  }
}

// Products become scores, these weights: 0 where an item does not see a key.
template <class Element, int kSteps>
__device__ void weigh_keys(const PrefillWork& work, const TensorMemory<kSteps>& memory, const PageRun& run, int begin,
                           LaneItems<kSteps>& items, Scores& scores) {
  const AttentionScores& rule = work.scores;
  if (sizeof(Element) == 1) for_scores([&](int n, int e) { scores[n][e] *= memory.key_scales[key_of(n, e)]; });
  if (rule.soft_cap > 0 || rule.slopes != nullptr)
    for_scores(
        [&](int n, int e) { scores[n][e] = score_of(scores[n][e], rule, items.head[e / 2], begin + key_of(n, e)); });
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const Seen seen = items.seen_in(run, r);
    float highest = items.highest[r];
    if (begin < seen.begin || begin + kKeys > seen.end) {
#pragma unroll
      for (int i = 0; i < kKeys / 4; ++i) {
        const int position = begin + key_of(i / 2, i);
        if (position < seen.begin || position >= seen.end) scores[i / 2][2 * r + i % 2] = -INFINITY;
      }
    }
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) highest = fmaxf(highest, scores[i / 2][2 * r + i % 2]);
    for (int with = 1; with < 4; with *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, with));
    const float base = highest == -INFINITY ? 0.0f : highest;  // nothing is seen yet
    const float shrink = __expf(items.highest[r] - base);
    items.highest[r] = highest;
    items.total[r] *= shrink;
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) {
      float& weight = scores[i / 2][2 * r + i % 2];
      weight = __expf(weight - base);
      items.total[r] += weight;
    }
#pragma unroll
    for (int n = 0; n < 2 * kSteps; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) items.out[n][2 * r + e] *= shrink;
  }
}

// Adds the weighted values. A fragment of weights, whose words are items [0, 8) and [8, 16) of keys [0, 8) and [8, 16),
// is made of two of scores.
template <class Element, int kSteps>
__device__ void add_weighted(const TensorMemory<kSteps>& memory, const Scores& weights, LaneItems<kSteps>& items) {
  const int lane = int(threadIdx.x) % kWarp;
#pragma unroll
  for (int part = 0; part < kKeys / 16; ++part) {
    unsigned high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int n = 2 * part + i / 2, e = i % 2 * 2;
      float pair[2] = {weights[n][e], weights[n][e + 1]};
      if constexpr (sizeof(Element) == 1)
        for (int j = 0; j < 2; ++j) pair[j] *= memory.value_scales[key_of(n, j)];
      const SplitPair split = split_pair(pair[0], pair[1]);
      high[i] = split.high;
      low[i] = split.low;
    }
    constexpr int kTogether = 2;  // steps: more sums to add to than a product takes to be there
    static_assert(kSteps % kTogether == 0);
#pragma unroll
    for (int step = 0; step < kSteps; step += kTogether) {
      unsigned values[2 * kTogether][2];
#pragma unroll
      for (int s = 0; s < kTogether; ++s) {
        unsigned words[4];
        load_transposed(words, memory.values.piece(16 * part + lane % 16, 2 * (step + s) + lane / 16));
#pragma unroll
        for (int i = 0; i < 4; ++i) values[2 * s + i / 2][i % 2] = words[i];
      }
#pragma unroll
      for (int n = 0; n < 2 * kTogether; ++n) multiply_add(items.out[2 * step + n], high, values[n]);
#pragma unroll
      for (int n = 0; n < 2 * kTogether; ++n) multiply_add(items.out[2 * step + n], low, values[n]);
    }
  }
}

// While keys are multiplied values come, and the other way round.
template <class Element, int kSteps>
__device__ void attend_run(const PrefillWork& work, const TensorMemory<kSteps>& memory, const Tile& tile,
                           const PageRun& run, LaneItems<kSteps>& items) {
  const int32_t* const pages =
      work.rows.page_tables + int64_t(work.rows.page_table_of[run.first]) * work.rows.table_pages;
  const Seen of_warp = warp_joined(joined(items.seen_in(run, 0), items.seen_in(run, 1)));
  const auto start = [&](const unsigned char* cached, int begin, const TileRows<kSteps>& to, float* scales) {
    if (begin < run.seen.end)
      start_tokens<Element>(work.cache, cached, pages, tile.kv_head, begin, run.seen, to, scales);
    commit_copies();
  };
  const auto arrive = [] {
    wait_for_copies<0>();
    __syncthreads();  // of all threads; and all have read what is overwritten next
  };
  arrive();
  int begin = run.seen.begin / kKeys * kKeys;
  start(work.cache.keys, begin, memory.keys, memory.key_scales);
  for (; begin < run.seen.end; begin += kKeys) {
    const bool sees = of_warp.begin < begin + kKeys && begin < of_warp.end;
    Scores scores;
    arrive();
    start(work.cache.values, begin, memory.values, memory.value_scales);
    if (sees) {
      multiply_keys(memory, scores);
      weigh_keys<Element>(work, memory, run, begin, items, scores);
    }
    arrive();
    start(work.cache.keys, begin + kKeys, memory.keys, memory.key_scales);
    if (sees) add_weighted<Element>(memory, scores, items);
  }
}

template <int kSteps>
__device__ void store_items(const PrefillWork& work, LaneItems<kSteps>& items) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float total = items.total[r];
    for (int with = 1; with < 4; with *= 2) total += __shfl_xor_sync(~0u, total, with);
    if (items.seen[r].end == 0) continue;
    float* const out = work.out + items.row[r] * work.out_stride + int64_t(items.head[r]) * work.cache.head_size;
#pragma unroll
    for (int i = 0; i < 4 * kSteps; ++i) {
      const int channel = key_of(i / 2, i);
      if (channel < work.cache.head_size) out[channel] = items.out[i / 2][2 * r + i % 2] / total;
    }
  }
}

// As many as let three blocks, and for small heads four, run on a multiprocessor at a time.
constexpr int blocks_together(int steps) { return steps <= 4 ? 4 : steps <= 8 ? 3 : 1; }

// A block a kv head and tile, those of the latest positions, which have most to do, first.
template <class Element, int kSteps>
__global__ void __launch_bounds__(kThreads, blocks_together(kSteps)) attend_items(PrefillWork work) {
  const int kv_head = int(blockIdx.y), group = work.groups.count(kv_head);
  const Tile tile{kv_head, work.groups.first(kv_head), group, int(gridDim.x - 1 - blockIdx.x) * kItems,
                  work.rows.count * group};
  if (tile.first >= tile.items) return;
  const TensorMemory<kSteps> memory;
  if (work.cache.head_size < 16 * kSteps) {
    clear_keys_and_values(memory);
    __syncthreads();
  }
  store_queries(work, memory, tile);
  LaneItems<kSteps> items(work, tile);
  for (int row = tile.row(tile.first); row < tile.end_row();) {
    const PageRun run = run_from(work, row, tile.end_row());
    attend_run<Element>(work, memory, tile, run, items);
    row = run.end;
  }
  store_items(work, items);
}

// use(steps): what a head of this size is filled up to.
template <class Use>
void with_steps(int head_size, Use use) {
  if (head_size <= 32) return use(std::integral_constant<int, 2>());
  if (head_size <= 64) return use(std::integral_constant<int, 4>());
  if (head_size <= 96) return use(std::integral_constant<int, 6>());
  if (head_size <= 128) return use(std::integral_constant<int, 8>());
  use(std::integral_constant<int, kMostSteps>());
}

}  // namespace

bool suits_tensor_cores(const KvCache& cache) {
  if (cache.dtype == DType::f32 || cache.head_size % 16 != 0 || cache.head_size > 16 * kMostSteps) return false;
  bool has_room = false;
  with_steps(cache.head_size, [&](auto steps) { has_room = TensorMemory<steps()>::kBytes <= most_shared_memory(); });
  return has_room;
}

void prefill_attention_tensor(cudaStream_t stream, const KvCache& cache, const PrefillWork& work) {
  const int tiles = (work.rows.count * work.groups.largest + kItems - 1) / kItems;
  with_steps(cache.head_size, [&](auto steps) {
    const Launch how{dim3(unsigned(tiles), unsigned(cache.kv_heads)), kThreads, TensorMemory<steps()>::kBytes, stream};
    if (cache.dtype == DType::i8)
      launch(attend_items<int8_t, steps()>, how, work);
    else
      launch(attend_items<bf16, steps()>, how, work);
  });
}

}  // namespace pleat::cuda
