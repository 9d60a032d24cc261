#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/neuron_rows.h"
#include "kernels/vector_ops.h"

namespace pleat {

Selection::Selection(std::vector<int64_t> leaf_offsets_) : leaf_offsets(std::move(leaf_offsets_)) {
  PLEAT_ASSERT(!leaf_offsets.empty() && leaf_offsets.front() == 0, leaf_offsets.size(), " offsets");
  PLEAT_ASSERT(std::is_sorted(leaf_offsets.begin(), leaf_offsets.end()));
  neuron.resize(size_t(leaf_offsets.back()));
  rows.resize(neuron.size());
  leaf_begin.resize(leaf_offsets.size());
}

void Selection::clear() { std::fill(leaf_begin.begin(), leaf_begin.end(), 0); }

int64_t Selection::row_count(int row) const {
  int64_t n = 0;
  for (int64_t i = 0; i < count(); ++i) n += rows[i] >> row & 1;
  return n;
}

namespace {

// mark(begin, end) sets the masks of neurons; the gaps of each leaf are then closed within its own range, and in the
// end the leaves move together. Where every thread has leaves enough it marks and closes a leaf in one go.
template <class Mark>
void gather_marked(Context& ctx, Selection& selection, Mark mark) {
  const std::vector<int64_t>& offset = selection.leaf_offsets;
  std::vector<int32_t>& leaf_begin = selection.leaf_begin;
  int32_t* const neuron = selection.neuron.data();
  uint32_t* const mask = selection.rows.data();
  const int64_t leaves = int64_t(offset.size()) - 1;
  const bool apart = leaves < 2 * ctx.team().threads();
  if (apart) ctx.team().split(offset.back(), [&](int, int64_t begin, int64_t end) { mark(begin, end); });
  ctx.team().split(leaves, [&](int, int64_t first, int64_t last) {
    if (!apart) mark(offset[first], offset[last]);
    for (int64_t leaf = first; leaf < last; ++leaf) {
      int64_t to = offset[leaf];
      for (int64_t i = offset[leaf]; i < offset[leaf + 1]; ++i) {
        const uint32_t bits = mask[i];
        neuron[to] = int32_t(i);
        mask[to] = bits;
        to += bits != 0;
      }
      leaf_begin[leaf + 1] = int32_t(to - offset[leaf]);
    }
  });
  leaf_begin[0] = 0;
  for (int64_t leaf = 0; leaf < leaves; ++leaf) {
    const int32_t begin = leaf_begin[leaf], count = leaf_begin[leaf + 1];
    std::copy_n(neuron + offset[leaf], count, neuron + begin);
    std::copy_n(mask + offset[leaf], count, mask + begin);
    leaf_begin[leaf + 1] = begin + count;
  }
}

}  // namespace

void Selection::gather(Context& ctx) {
  gather_marked(ctx, *this, [](int64_t, int64_t) {});
}

void select_by_gate(Context& ctx, MatrixView<const float> activated, const float* up_slope, const float* factor,
                    float threshold, Selection& selection) {
  PLEAT_ASSERT(activated.rows <= kMaxSharedRows, activated.rows, " rows share a selection");
  PLEAT_ASSERT(selection.leaf_offsets.back() == activated.cols, selection.leaf_offsets.back(), " and ", activated.cols,
               " neurons");
  uint32_t* const mask = selection.rows.data();
  gather_marked(ctx, selection, [&](int64_t begin, int64_t end) {
    std::fill(mask + begin, mask + end, 0);
    for (int64_t row = 0; row < activated.rows; ++row) {
      const float* const act = activated[row];
      for (int64_t n = begin; n < end; ++n) {
        const bool inside = std::fabs(act[n] - up_slope[n]) * factor[n] <= threshold;
        mask[n] |= uint32_t(!inside) << row;  // NaN is outside
      }
    }
  });
}

void select_by_magnitude(Context& ctx, MatrixView<const float> values, float threshold, Selection& selection) {
  PLEAT_ASSERT(values.rows <= kMaxSharedRows, values.rows, " rows share a selection");
  PLEAT_ASSERT(selection.leaf_offsets.back() == values.cols, selection.leaf_offsets.back(), " and ", values.cols);
  uint32_t* const mask = selection.rows.data();
  gather_marked(ctx, selection, [&](int64_t begin, int64_t end) {
    std::fill(mask + begin, mask + end, 0);
    for (int64_t row = 0; row < values.rows; ++row)
      for (int64_t i = begin; i < end; ++i)
        mask[i] |= uint32_t(!(std::fabs(values[row][i]) <= threshold)) << row;  // NaN is above
  });
}

void select_by_residual(Context& ctx, MatrixView<const float> up, MatrixView<const float> gate, Activation activation,
                        const GatedLines& lines, const float* factor, float threshold, Selection& selection) {
  constexpr int64_t kPiece = 256;  // neurons activated at once
  PLEAT_ASSERT(up.rows == gate.rows && up.rows <= kMaxSharedRows, up.rows, " rows share a selection");
  PLEAT_ASSERT(selection.leaf_offsets.back() == up.cols && up.cols == gate.cols, selection.leaf_offsets.back(), " and ",
               up.cols, " neurons");
  uint32_t* const mask = selection.rows.data();
  const auto activate_piece = vector_ops(ctx.isa()).activate;
  gather_marked(ctx, selection, [&](int64_t first, int64_t last) {
    float activated[kPiece];
    for (int64_t begin = first; begin < last; begin += kPiece) {
      const int64_t end = std::min(begin + kPiece, last);
      std::fill(mask + begin, mask + end, 0);
      for (int64_t row = 0; row < up.rows; ++row) {
        const float *const u = up[row], *const g = gate[row];
        std::copy(g + begin, g + end, activated);
        activate_piece(activation, activated, end - begin);
        for (int64_t n = begin; n < end; ++n) {
          const float rest =
              (activated[n - begin] - lines.up_slope[n]) * u[n] - (lines.gate_slope[n] * g[n] + lines.intercept[n]);
          const bool inside = std::fabs(rest) * factor[n] <= threshold;
          mask[n] |= uint32_t(!inside) << row;  // NaN is outside
        }
      }
    }
  });
}

}  // namespace pleat
