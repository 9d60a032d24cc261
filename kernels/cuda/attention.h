#pragma once
// Causal attention over a paged key-value cache on a device, for decoding and short chunks (Flash-Decoding,
// https://crfm.stanford.edu/2023/10/12/flashdecoding.html).

#include <cstddef>
#include <span>

#include "kernels/attention.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"
#include "kernels/tensor.h"

namespace pleat::cuda {

// A row's positions are cut into splits of this many pages, which are attended side by side.
constexpr int kSplitPages = 4;

// The floats that attention() needs to keep its splits' results, for rows at positions below max_positions.
size_t attention_work(int rows, int q_heads, int head_size, int max_positions);

// out[row, head] = softmax(scores) values over the row's positions; query head h reads kv head kv_of_head[h].
// In f32, but over caches in bf16 and 8 bits heads of 64 and 128 are multiplied by tensor cores: a product is right
// within 2^-16 of itself.
//   q, out      [rows, q_heads * head_size] f32
//   cache       keys and values as in kernels/kv_cache.h, at multiples of 16 bytes, whole (kept_channels is 0)
//   kv_of_head  [q_heads] on the host, ascending
//   scores      its slopes are on the device
//   work        [attention_work(...)], at a multiple of 16 bytes
// q, cache, out and work are on the device, and so are the rows' positions, below max_positions, and page tables, which
// no kernel writes. A launch's shape follows from the host's arguments alone. A row's bits depend on its position, not
// on other rows nor max_positions. Error(invalid) for heads of a size above 256.
void attention(StreamHandle stream, MatrixView<const float> q, const PagedRows& rows, const KvCache& cache,
               std::span<const int> kv_of_head, const AttentionScores& scores, int max_positions, float* work,
               MatrixView<float> out);

}  // namespace pleat::cuda
