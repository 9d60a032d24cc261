#pragma once
// A block of threads' work on one tile, which is kTile positions: keys and values become f32 in shared memory, and the
// query heads of one kv head, of one row or of several, go over them. Included by .cu files only.
#include "kernels/attention.h"
#include "kernels/cuda/cache_blocks.h"
#include "kernels/cuda/floats.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {

constexpr int kTile = 2 * kPageTokens;
static_assert(kTile == kWarp);  // a lane is a position when a warp sums over them
constexpr int kAttentionThreads = 128;
constexpr int kQuad = 4;  // channels that a thread takes at once

using Quad = Floats<kQuad>;

// Positions [begin, end) of a tile.
struct TileRange {
  int begin, end;
};

// What shared memory holds. Lengths are in quads of channels, the last one filled up with zeros.
struct TileShape {
  int heads;  // at most, of all rows, rounded up to the number that a thread takes at once
  int head_size;
  __host__ __device__ int quads() const { return (head_size + kQuad - 1) / kQuad; }
  // An odd number from token to token: the same quad of 8 tokens lies in all 32 banks.
  __host__ __device__ int token_quads() const { return quads() | 1; }
  __host__ __device__ size_t tile_floats() const { return size_t(kTile) * size_t(token_quads()) * kQuad; }
  __host__ __device__ size_t head_floats() const { return size_t(heads) * size_t(quads()) * kQuad; }
  size_t shared_bytes() const {
    return (2 * tile_floats() + 2 * head_floats() + size_t(kTile + 3) * size_t(heads)) * sizeof(float);
  }
};

struct TileMemory {
  float* keys;     // [kTile, token_quads, 4]
  float* values;   // [kTile, token_quads, 4]
  float* q;        // [heads, quads, 4] times the scale
  float* out;      // [heads, quads, 4] sum of exp(score - highest) value
  float* weights;  // [kTile, heads] scores, then exp(score - highest)
  float* highest;  // [heads] score so far
  float* total;    // [heads] sum of exp(score - highest)
  float* shrink;   // [heads] exp(highest before this tile - highest)

  __device__ explicit TileMemory(const TileShape& shape) {
    keys = dynamic_shared<float>();
    values = keys + shape.tile_floats();
    q = values + shape.tile_floats();
    out = q + shape.head_floats();
    weights = out + shape.head_floats();
    highest = weights + kTile * shape.heads;
    total = highest + shape.heads;
    shrink = total + shape.heads;
  }
};

// The i-th number of 16 bytes of a cached block, without its token's scale.
template <class Element>
__device__ float number(const uint4& piece, int i) {
  const unsigned words[4] = {piece.x, piece.y, piece.z, piece.w};
  if constexpr (sizeof(Element) == 4) return __uint_as_float(words[i]);
  if constexpr (sizeof(Element) == 2) return __uint_as_float(words[i / 2] >> 16 * (i % 2) << 16);
  if constexpr (sizeof(Element) == 1) return float(int8_t(words[i / 4] >> 8 * (i % 4)));
}

// Spreads the numbers of one piece of a block over the tile. kRun of them are sure to belong to one token.
template <class Element, int kRun>
__device__ void store_piece(const uint4& piece, int first, const float* scales, const TileShape& shape, float* tokens) {
  constexpr int kCount = kPieceBytes / int(sizeof(Element));
  for (int i = 0; i < kCount; i += kRun) {
    const int token = (first + i) / shape.head_size, channel = (first + i) % shape.head_size;
    Floats<kRun> numbers;
    for (int r = 0; r < kRun; ++r) {
      numbers.at[r] = number<Element>(piece, i + r);
      if constexpr (sizeof(Element) == 1) numbers.at[r] *= scales[token];
    }
    numbers.store(tokens + token * shape.token_quads() * kQuad + channel);
  }
}

// Copies the pages of `range`, of the tile that begins at position `begin`, from `cached`, keys or values, whose blocks
// are read in pieces of 16 bytes wherever tokens begin.
template <class Element, int kRun>
__device__ void copy_tile(const CacheBlocks& cache, const unsigned char* cached, const PagedRows& rows, int row,
                          int kv_head, int begin, TileRange range, const TileShape& shape, float* tile) {
  const int first_page = range.begin / kPageTokens, end_page = (range.end - 1) / kPageTokens + 1;
  constexpr int kCount = kPieceBytes / int(sizeof(Element));
  constexpr int kAtOnce = 4;  // loads of a thread under way together
  const int page_pieces = kPageTokens * cache.head_size / kCount, end = end_page * page_pieces;
  for (int first = first_page * page_pieces + int(threadIdx.x); first < end; first += kAtOnce * kAttentionThreads) {
    uint4 pieces[kAtOnce];
    const unsigned char* blocks[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = first + i * kAttentionThreads, page = at / page_pieces;
      if (at >= end) break;
      blocks[i] = cached + block_of(cache, rows, row, begin + page * kPageTokens, kv_head);
      const auto* from = reinterpret_cast<const uint4*>(blocks[i] + cache.scale_bytes);
      pieces[i] = __ldg(from + at % page_pieces);
    }
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = first + i * kAttentionThreads, page = at / page_pieces;
      if (at >= end) break;
      store_piece<Element, kRun>(pieces[i], at % page_pieces * kCount, reinterpret_cast<const float*>(blocks[i]), shape,
                                 tile + page * kPageTokens * shape.token_quads() * kQuad);
    }
  }
}

// Of the product of a key at `position` and a scaled query.
__device__ inline float score_of(float product, const AttentionScores& rule, int q_head, int position) {
  const float score = rule.soft_cap > 0 ? rule.soft_cap * tanhf(product / rule.soft_cap) : product;
  if (rule.slopes == nullptr) return score;
  if (!rule.bias_in_bf16) return score + rule.slopes[q_head] * float(position) * rule.slope_scale;
  return score + rounded_to_bf16(rule.slopes[q_head] * rounded_to_bf16(float(position))) * rule.slope_scale;
}

// The queries of `heads` heads, at q_of(head) each, scaled and filled up with zeros.
template <class QueryOf>
__device__ void load_queries(const TileMemory& memory, const TileShape& shape, int heads, float scale, QueryOf q_of) {
  const int padded = shape.quads() * kQuad;
  for (int i = int(threadIdx.x); i < shape.heads * padded; i += kAttentionThreads) {
    const int head = i / padded, channel = i % padded;
    memory.q[i] = head < heads && channel < shape.head_size ? q_of(head)[channel] * scale : 0.0f;
  }
}

// Nothing is attended.
__device__ inline void clear_heads(const TileMemory& memory, const TileShape& shape) {
  for (int i = int(threadIdx.x); i < int(shape.head_floats()); i += kAttentionThreads) memory.out[i] = 0;
  for (int head = int(threadIdx.x); head < shape.heads; head += kAttentionThreads) {
    memory.highest[head] = -INFINITY;
    memory.total[head] = memory.shrink[head] = 0;
  }
}

// The last quads' channels that no copy writes.
__device__ inline void clear_tile(const TileMemory& memory, const TileShape& shape) {
  for (int i = int(threadIdx.x); i < int(2 * shape.tile_floats()); i += kAttentionThreads) memory.keys[i] = 0;
}

// Scores of the tile's positions `range`, which are at `position` + these, for `heads` heads, the query heads
// q_head_of(head).
template <int kHeads, class QueryHeadOf>
__device__ void score_tile(const TileMemory& memory, const TileShape& shape, TileRange range, int position,
                           const AttentionScores& rule, int heads, QueryHeadOf q_head_of) {
  for (int item = int(threadIdx.x); item < shape.heads / kHeads * kTile; item += kAttentionThreads) {
    const int token = item % kTile, head = item / kTile * kHeads;
    if (token < range.begin || token >= range.end) continue;
    const Quad* const key = reinterpret_cast<const Quad*>(memory.keys) + token * shape.token_quads();
    const Quad* const q = reinterpret_cast<const Quad*>(memory.q) + head * shape.quads();
    float products[kHeads] = {};
    for (int quad = 0; quad < shape.quads(); ++quad) {
      const Quad k = key[quad];
      for (int h = 0; h < kHeads; ++h) {
        const Quad x = q[h * shape.quads() + quad];
        for (int i = 0; i < kQuad; ++i) products[h] = fmaf(x.at[i], k.at[i], products[h]);
      }
    }
    for (int h = 0; h < kHeads; ++h)
      memory.weights[token * shape.heads + head + h] =
          head + h < heads ? score_of(products[h], rule, q_head_of(head + h), position + token) : 0.0f;
  }
}

// Scores become weights, a warp a head, 0 where the head does not see a position (it sees seen_of(head)); the heads'
// highest scores and totals take them in.
template <class SeenOf>
__device__ void weigh_tile(const TileMemory& memory, const TileShape& shape, int heads, SeenOf seen_of) {
  const int lane = int(threadIdx.x) % kWarp;
  for (int head = int(threadIdx.x) / kWarp; head < heads; head += kAttentionThreads / kWarp) {
    const TileRange range = seen_of(head);
    const bool seen = lane >= range.begin && lane < range.end;
    float& weight = memory.weights[lane * shape.heads + head];
    const float score = seen ? weight : -INFINITY;
    const float before = memory.highest[head], highest = fmaxf(before, warp_max(score));
    weight = seen ? __expf(score - highest) : 0.0f;
    const float sum = warp_sum(weight);
    __syncwarp();  // all lanes have read `before`
    if (lane > 0) continue;
    memory.shrink[head] = highest == before ? 1.0f : __expf(before - highest);  // both are -inf before the first
    memory.total[head] = memory.total[head] * memory.shrink[head] + sum;
    memory.highest[head] = highest;
  }
}

// Adds the tile's weighted values. A thread keeps to its own heads and channels of `out` from tile to tile.
template <int kHeads>
__device__ void add_values(const TileMemory& memory, const TileShape& shape, TileRange range) {
  for (int item = int(threadIdx.x); item < shape.heads / kHeads * shape.quads(); item += kAttentionThreads) {
    const int quad = item % shape.quads(), head = item / shape.quads() * kHeads;
    Quad* const out = reinterpret_cast<Quad*>(memory.out) + head * shape.quads() + quad;
    Quad sums[kHeads];
    for (int h = 0; h < kHeads; ++h) {
      sums[h] = out[h * shape.quads()];
      for (int i = 0; i < kQuad; ++i) sums[h].at[i] *= memory.shrink[head + h];
    }
    for (int token = range.begin; token < range.end; ++token) {
      const Quad value = reinterpret_cast<const Quad*>(memory.values)[token * shape.token_quads() + quad];
      const auto weights = Floats<kHeads>::load(memory.weights + token * shape.heads + head);
      for (int h = 0; h < kHeads; ++h)
        for (int i = 0; i < kQuad; ++i) sums[h].at[i] = fmaf(weights.at[h], value.at[i], sums[h].at[i]);
    }
    for (int h = 0; h < kHeads; ++h) out[h * shape.quads()] = sums[h];
  }
}

// All of the above for the tile at `position`, of which `range` is seen by any head. All threads of the block call it,
// with what they hold of the tile before used.
template <class Element, int kRun, int kHeads, class QueryHeadOf, class SeenOf>
__device__ void attend_tile(const CacheBlocks& cache, const PagedRows& rows, int row, int kv_head, int position,
                            TileRange range, const AttentionScores& rule, const TileShape& shape,
                            const TileMemory& memory, int heads, QueryHeadOf q_head_of, SeenOf seen_of) {
  __syncthreads();
  copy_tile<Element, kRun>(cache, cache.keys, rows, row, kv_head, position, range, shape, memory.keys);
  copy_tile<Element, kRun>(cache, cache.values, rows, row, kv_head, position, range, shape, memory.values);
  __syncthreads();
  score_tile<kHeads>(memory, shape, range, position, rule, heads, q_head_of);
  __syncthreads();
  weigh_tile(memory, shape, heads, seen_of);
  __syncthreads();
  add_values<kHeads>(memory, shape, range);
}

}  // namespace pleat::cuda
