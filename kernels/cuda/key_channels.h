#pragma once
// Cut keys on a device (core/engine/key_channels.h): what their choice is made of, and the cut itself. Blocks keep
// their size here, and a channel that is dropped is zero, which is what leaving it out of a product is.
#include "kernels/cuda/device.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"
#include "kernels/tensor.h"

namespace pleat::cuda {

// A pass's rows in their order; all [count] and on the device.
struct ObservedRows {
  const int32_t *positions = nullptr, *slots = nullptr;
  const int32_t* observed = nullptr;  // 0: the row is left out
};

// sums [slots][pages][q.cols]: row after row, a page's sums are 0 at its first position, then += q * q; page p of a
// sequence is at p % pages.
void add_query_squares(StreamHandle stream, MatrixView<const float> q, const ObservedRows& rows, int pages,
                       float* sums);

// out [kv_heads * head_size] = the sum of the squares of each key channel over positions [0, tokens), in their order.
//   page_table  on the device
void key_energies(StreamHandle stream, const KvCache& cache, const int32_t* page_table, int tokens, double* out);

// Pages of keys, and the slots whose channels they keep; on the device.
struct CutPages {
  int count = 0;
  const int32_t *pages = nullptr, *slots = nullptr;  // [count]
};

// Drops the channels that are not kept.   kept [slots][kv_heads][kept_channels], ascending
void drop_channels(StreamHandle stream, const KvCache& cache, const CutPages& pages, const int32_t* kept,
                   int kept_channels);

}  // namespace pleat::cuda
