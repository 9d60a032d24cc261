#include "kernels/attention.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

void check(const KvCache& cache) {
  PLEAT_ASSERT(cache.dtype == DType::f32 || cache.dtype == DType::bf16, "cache of ", name_of(cache.dtype));
}

}  // namespace

void append_kv(Context& ctx, MatrixView<const float> k, MatrixView<const float> v, std::span<const AttentionRow> rows,
               KvCache& cache) {
  check(cache);
  const int64_t width = cache.head_size, head_stride = kPageTokens * width;
  PLEAT_ASSERT(k.rows == int64_t(rows.size()) && v.rows == k.rows, k.rows, " keys, ", v.rows, " values, ", rows.size(),
               " rows");
  PLEAT_ASSERT(k.cols == cache.kv_heads * width && v.cols == k.cols, k.cols, " columns for ", cache.kv_heads,
               " heads of ", width);
  const auto to_bf16 = vector_ops(ctx.isa()).to_bf16;
  const auto store = [&](const float* from, void* to, int64_t offset) {
    if (cache.dtype == DType::f32)
      std::memcpy(static_cast<float*>(to) + offset, from, size_t(width) * sizeof(float));
    else
      to_bf16(from, static_cast<bf16*>(to) + offset, width);
  };
  const auto append = [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t position = rows[row].position;
      const int64_t page = rows[row].page_table[position / kPageTokens];
      for (int head = 0; head < cache.kv_heads; ++head) {
        const int64_t offset = (page * cache.kv_heads + head) * head_stride + position % kPageTokens * width;
        store(k[row] + head * width, cache.keys, offset);
        store(v[row] + head * width, cache.values, offset);
      }
    }
  };
  if (k.rows * k.cols <= 8192) return append(0, 0, k.rows);
  ctx.team().split(k.rows, append);
}

void attention(Context& ctx, MatrixView<const float> q, std::span<const AttentionRow> rows, const KvCache& cache,
               std::span<const int> kv_of_head, const AttentionScores& scores, MatrixView<float> out) {
  check(cache);
  const int64_t width = cache.head_size, heads = int64_t(kv_of_head.size());
  PLEAT_ASSERT(q.rows == int64_t(rows.size()) && out.rows == q.rows, q.rows, " queries, ", out.rows, " outputs, ",
               rows.size(), " rows");
  PLEAT_ASSERT(q.cols == heads * width && out.cols == q.cols, q.cols, " columns for ", heads, " heads of ", width);
  const auto attend = vector_ops(ctx.isa()).attend;
  const int64_t count = int64_t(rows.size());
  // Decoding, every row is a task of its own; a prompt's rows go together.
  const int64_t together = count >= 8 * kAttentionRows ? kAttentionRows : 1;
  const int64_t work_size = 2 * kAttentionRows * attention_padding(width);
  float* work =
      static_cast<float*>(ctx.scratch(Context::op_slot, size_t(ctx.team().threads() * work_size) * sizeof(float)));
  ctx.team().each((count + together - 1) / together * heads, [&](int member, int64_t index) {
    const int64_t head = index % heads, end = std::min(count, index / heads * together + together);
    for (int64_t row = index / heads * together; row < end;) {
      int64_t next = row + 1;
      while (next < end && rows[next].page_table == rows[row].page_table) ++next;
      attend({.q = q[row] + head * width,
              .q_stride = q.stride,
              .out = out[row] + head * width,
              .out_stride = out.stride,
              .cache = &cache,
              .rows = &rows[row],
              .count = int(next - row),
              .kv_head = kv_of_head[head],
              .q_head = int(head),
              .scores = &scores,
              .work = work + member * work_size});
      row = next;
    }
  });
}

}  // namespace pleat
