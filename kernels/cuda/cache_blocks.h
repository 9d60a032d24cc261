#pragma once
// Where a row's keys and values lie in a KvCache on the device. Included by .cu files only.
#include "device_language.h"
#include "kernels/check.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"

namespace pleat::cuda {

constexpr int kPieceBytes = 16;  // of the widest load; blocks begin at multiples of it, tokens need not

struct CacheBlocks {
  unsigned char* keys;
  unsigned char* values;
  int64_t block_bytes;
  int scale_bytes;
  int kv_heads;
  int head_size;
};

inline CacheBlocks blocks_of(const KvCache& cache) {
  PLEAT_ASSERT(cache.kept_channels == 0 && cache.gap == 0, "a cache of compacted keys, or with gaps, on a device");
  PLEAT_ASSERT(reinterpret_cast<uintptr_t>(cache.keys) % kPieceBytes == 0 &&
               reinterpret_cast<uintptr_t>(cache.values) % kPieceBytes == 0);
  return {static_cast<unsigned char*>(cache.keys),
          static_cast<unsigned char*>(cache.values),
          cache.block_bytes(),
          int(cache.scale_bytes()),
          cache.kv_heads,
          cache.head_size};
}

// The beginning, in bytes, of the block that holds a row's `position` in this head.
__device__ inline int64_t block_of(const CacheBlocks& cache, const PagedRows& rows, int row, int position,
                                   int kv_head) {
  const int64_t entry = int64_t(rows.page_table_of[row]) * rows.table_pages + position / kPageTokens;
  return (int64_t(rows.page_tables[entry]) * cache.kv_heads + kv_head) * cache.block_bytes;
}

// function(element) with an element of the cache's type: float, bf16 or int8_t.
template <class Function>
void with_element(DType dtype, Function function) {
  if (dtype == DType::f32) return function(float());
  if (dtype == DType::bf16) return function(bf16());
  PLEAT_ASSERT(dtype == DType::i8, "a cache of ", name_of(dtype));
  function(int8_t());
}

}  // namespace pleat::cuda
