#include "kernels/attention.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/vector_ops.h"

namespace pleat {
void attention(Context& ctx, MatrixView<const float> q, std::span<const AttentionRow> rows, const KvCache& cache,
               std::span<const int> kv_of_head, const AttentionScores& scores, MatrixView<float> out) {
  const int64_t width = cache.head_size, heads = int64_t(kv_of_head.size());
  PLEAT_ASSERT(q.rows == int64_t(rows.size()) && out.rows == q.rows, q.rows, " queries, ", out.rows, " outputs, ",
               rows.size(), " rows");
  PLEAT_ASSERT(q.cols == heads * width && out.cols == q.cols, q.cols, " columns for ", heads, " heads of ", width);
  const auto attend = vector_ops(ctx.isa()).attend;
  const int64_t count = int64_t(rows.size());
  // Decoding, every row is a task of its own; a prompt's rows go together.
  const int64_t together = count >= 8 * kAttentionRows ? kAttentionRows : 1;
  const int64_t work_size = kAttentionWork * kAttentionRows * attention_padding(width);
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
