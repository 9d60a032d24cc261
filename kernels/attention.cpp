#include "kernels/attention.h"

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

// Rows of one sequence go together, few of them one by one. begins [rows + 1]: where each group begins, and the end.
int64_t group_rows(std::span<const AttentionRow> rows, std::span<int32_t> begins) {
  size_t groups = 0;
  for (size_t row = 0; row < rows.size();) {
    size_t end = row + 1;
    while (end < rows.size() && end - row < kAttentionRows && rows[end].page_table == rows[row].page_table) ++end;
    const size_t step = end - row < kLeastAttentionRows ? 1 : end - row;
    for (; row < end; row += step) begins[groups++] = int32_t(row);
  }
  begins[groups] = int32_t(rows.size());
  return int64_t(groups);
}

}  // namespace

void attention(Context& ctx, MatrixView<const float> q, std::span<const AttentionRow> rows, const KvCache& cache,
               std::span<const int> kv_of_head, const AttentionScores& scores, MatrixView<float> out) {
  const int64_t width = cache.head_size, heads = int64_t(kv_of_head.size());
  PLEAT_ASSERT(q.rows == int64_t(rows.size()) && out.rows == q.rows, q.rows, " queries, ", out.rows, " outputs, ",
               rows.size(), " rows");
  PLEAT_ASSERT(q.cols == heads * width && out.cols == q.cols, q.cols, " columns for ", heads, " heads of ", width);
  const auto attend = vector_ops(ctx.isa()).attend;
  const size_t work_bytes = size_t(kAttentionWork * attention_padding(width)) * sizeof(float);
  const size_t all_work = size_t(ctx.team().threads()) * work_bytes;
  std::byte* const work =
      static_cast<std::byte*>(ctx.scratch(Context::op_slot, all_work + (rows.size() + 1) * sizeof(int32_t)));
  // Where the groups of rows that go together begin.
  const std::span<int32_t> begins(reinterpret_cast<int32_t*>(work + all_work), rows.size() + 1);
  const int64_t groups = group_rows(rows, begins);
  ctx.team().each(groups * heads, [&](int member, int64_t index) {
    const int64_t head = index % heads, row = begins[size_t(index / heads)];
    attend({.q = q[row] + head * width,
            .q_stride = q.stride,
            .out = out[row] + head * width,
            .out_stride = out.stride,
            .cache = &cache,
            .rows = &rows[size_t(row)],
            .count = int(begins[size_t(index / heads) + 1] - row),
            .kv_head = kv_of_head[size_t(head)],
            .q_head = int(head),
            .scores = &scores,
            .work = reinterpret_cast<float*>(work + size_t(member) * work_bytes)});
  });
}

}  // namespace pleat
