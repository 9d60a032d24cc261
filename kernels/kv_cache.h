#pragma once
// One layer's paged key-value cache on one rank (PagedAttention, arXiv 2309.06180), in f32, bf16 or 8 bits, and with
// the keys of older tokens whole or cut down to the channels their sequence kept (ThinK, arXiv 2407.21018).
#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace pleat {

class Context;

constexpr int kPageTokens = 16;

// Keys and values are [pages][kv_heads] blocks of kPageTokens tokens each, a page's heads side by side. A block is
//   f32, bf16   [kPageTokens][head_size] numbers
//   i8          f32 scales [kPageTokens], then codes [kPageTokens][head_size]; a number is scale * code. A token's
//   scale
//               is its largest magnitude in this head / 127, keys and values apart: its bits depend on nothing else.
// A compacted block of keys holds [kPageTokens][kept_channels] of them, at its beginning; its other bytes are not read.
struct KvCache {
  void* keys = nullptr;
  void* values = nullptr;
  DType dtype = DType::f32;
  int64_t pages = 0;
  int kv_heads = 0;
  int head_size = 0;
  int kept_channels = 0;    // of head_size; 0: keys stay whole
  int32_t* kept = nullptr;  // [slots][kv_heads][kept_channels] ascending
  int64_t gap = 0;          // bytes between a page's blocks and the next page's; on a device none

  int64_t scale_bytes() const { return dtype == DType::i8 ? kPageTokens * int64_t(sizeof(float)) : 0; }
  int64_t block_bytes() const { return scale_bytes() + kPageTokens * head_size * int64_t(size_of(dtype)); }
  int64_t block(int64_t page, int kv_head) const {  // in bytes
    return page * (kv_heads * block_bytes() + gap) + kv_head * block_bytes();
  }
  int32_t* kept_of(int slot, int kv_head) const { return kept + (int64_t(slot) * kv_heads + kv_head) * kept_channels; }
};

struct AttentionRow {
  int64_t position = 0;                 // this token's position; it sees positions 0 .. position
  const int32_t* page_table = nullptr;  // [position / kPageTokens + 1] page numbers
  int64_t whole_begin = 0;              // keys before it are compacted; a multiple of kPageTokens
  int slot = 0;                         // whose kept channels they have
};

// Stores the rows' keys and values [rows, kv_heads * head_size] at their positions, whole.
void append_kv(Context& ctx, MatrixView<const float> k, MatrixView<const float> v, std::span<const AttentionRow> rows,
               KvCache& cache);

// out [kv_heads * head_size]: the sum of the squares of each key channel over positions [0, tokens), in their order.
void key_energies(Context& ctx, const KvCache& cache, const int32_t* page_table, int64_t tokens, std::span<double> out);

// Blocks of positions [begin, end), both multiples of kPageTokens, that are whole.
struct KeyCompaction {
  const int32_t* page_table = nullptr;
  int slot = 0;
  int64_t begin = 0, end = 0;
};

// Cuts the blocks' keys down to their slots' kept channels.
void compact_keys(Context& ctx, std::span<const KeyCompaction> compactions, KvCache& cache);

}  // namespace pleat
