#include "kernels/neuron_gather.h"

#include <algorithm>
#include <bit>

#include "kernels/check.h"
#include "kernels/low_bit_blocks.h"
#include "kernels/panel_product.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

constexpr int64_t kColumns = 512;     // of a down row, the smallest piece a thread takes
constexpr int64_t kSumFloats = 8192;  // sums that stay in the first-level cache while neurons are added
static_assert(kColumns % kGroup == 0);
static_assert(kColumns * kMaxSharedRows <= kMaxLowBitSums && kSumFloats <= kMaxLowBitSums);

// Pieces of a down row: the fewest, because memory likes long runs, whose sums of all rows stay in cache and that give
// every thread work. Which does not change the bits: a sum's additions are the same in any piece.
int64_t piece_columns(int64_t width, int64_t rows, int64_t leaves, int threads) {
  int64_t columns = std::max(kColumns, kSumFloats / rows / kColumns * kColumns);
  while (columns > kColumns && leaves * ((width + columns - 1) / columns) < 4 * threads) columns -= kColumns;
  return columns;
}

DType dtype_of(WeightFormat format) { return format == WeightFormat::f32 ? DType::f32 : DType::bf16; }

// Inputs 16 i + l of a group to byte 4 l + i: see low_bit_row.h.
void deal_to_lanes(int8_t* q) {
  int8_t in_order[kGroup];
  std::copy_n(q, kGroup, in_order);
  for (int lane = 0; lane < 16; ++lane)
    for (int i = 0; i < 4; ++i) q[4 * lane + i] = in_order[16 * i + lane];
}

}  // namespace

int64_t GatheredInput::bytes(MatrixView<const float> x) {
  const int64_t groups = (x.cols + kGroup - 1) / kGroup;
  return round_up(x.rows * std::max(x.cols * int64_t(sizeof(float)), groups * (kGroup + 2 * int64_t(sizeof(float)))));
}

GatheredInput::GatheredInput(Context& ctx, MatrixView<const float> x, const NeuronRows& w, std::byte* scratch) : x_(x) {
  if (is_low_bit(w.format())) quantise(ctx, w, scratch);
  if (w.format() != WeightFormat::bf16) return;
  float* const rounded = reinterpret_cast<float*>(scratch);
  for (int64_t row = 0; row < x.rows; ++row)
    vector_ops(ctx.isa()).round_to_bf16(x[row], rounded + row * x.cols, x.cols);
  x_ = {rounded, x.rows, x.cols};
}

void GatheredInput::quantise(Context& ctx, const NeuronRows& w, std::byte* scratch) {
  groups_ = w.groups();
  const int64_t count = x_.rows * groups_;
  int8_t* const q = reinterpret_cast<int8_t*>(scratch);
  float* const scales = reinterpret_cast<float*>(q + count * kGroup);
  float* const sums = scales + count;
  split_groups(ctx, count, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int32_t sum;
      quantise_group(x_, w.protected_masks(), i / groups_, i % groups_, q + i * kGroup, sum, scales[i]);
      deal_to_lanes(q + i * kGroup);
      sums[i] = scales[i] * float(sum);
    }
  });
  q_ = q, scales_ = scales, sums_ = sums;
}

void GatheredInput::dots(Isa isa, const NeuronRows& w, int64_t neuron, int64_t next, uint32_t rows, float* out) const {
  if (!is_low_bit(w.format()))
    return vector_ops(isa).neuron_dots({.x = x_.data,
                                        .stride = x_.stride,
                                        .rows = rows,
                                        .weights = w.row(neuron),
                                        .next = w.row(next),
                                        .dtype = dtype_of(w.format()),
                                        .width = w.width(),
                                        .out = out});
  vector_ops(isa).low_bit_dots({.q = q_,
                                .scales = scales_,
                                .sums = sums_,
                                .stride = groups_,
                                .rows = rows,
                                .bits = bits_of(w.format()),
                                .groups = groups_,
                                .weights = w.low_bit_row(neuron),
                                .next = w.low_bit_row(next),
                                .out = out});
  const std::vector<int32_t>& inputs = w.protected_inputs();
  if (inputs.empty()) return;
  const bf16* const weights = w.protected_weights(neuron);
  for (; rows != 0; rows &= rows - 1, ++out) {
    const float* const x = x_[std::countr_zero(rows)];
    for (size_t i = 0; i < inputs.size(); ++i) *out += x[inputs[i]] * to_f32(weights[i]);
  }
}

void round_factors(Isa isa, const NeuronRows& down, float* factors, int64_t n) {
  if (down.format() == WeightFormat::bf16) vector_ops(isa).round_to_bf16(factors, factors, n);
}

bool same_input(const NeuronRows& a, const NeuronRows& b) {
  return (a.format() == b.format() || (is_low_bit(a.format()) && is_low_bit(b.format()))) &&
         a.protected_inputs() == b.protected_inputs();
}

void fetch_scales(const NeuronRows& down, int64_t neuron) {
  if (!is_low_bit(down.format())) return;
  const char* const begin = reinterpret_cast<const char*>(down.low_bit_row(neuron).scales);
  for (int64_t at = 0; at < 2 * down.groups() * int64_t(sizeof(bf16)); at += 64) __builtin_prefetch(begin + at, 0, 2);
}

namespace {

// The masks of a selection, 0 where the neuron's row is held in bf16.
const uint32_t* ordinary_masks(Context& ctx, const NeuronRows& down, const Selection& selection) {
  if (down.protected_neurons().empty()) return selection.rows.data();
  const size_t count = size_t(selection.count());
  auto* const masks = static_cast<uint32_t*>(ctx.scratch(Context::panel_slot, count * sizeof(uint32_t)));
  for (size_t i = 0; i < count; ++i) masks[i] = down.protected_row(selection.neuron[i]) ? 0 : selection.rows[i];
  return masks;
}

}  // namespace

void add_gathered(Context& ctx, const NeuronRows& down, const Selection& selection, const float* factors, int64_t rows,
                  GatheredSums sums) {
  PLEAT_ASSERT(down.protected_inputs().empty());
  const VectorOps& ops = vector_ops(ctx.isa());
  const int64_t width = down.width(), leaf_count = int64_t(selection.leaf_begin.size()) - 1;
  const int64_t columns = piece_columns(width, rows, sums.one ? 1 : leaf_count, ctx.team().threads());
  const int64_t pieces = (width + columns - 1) / columns;
  const bool low_bit = is_low_bit(down.format());
  const uint32_t* const masks = low_bit ? ordinary_masks(ctx, down, selection) : nullptr;
  const auto add_leaf = [&](int64_t leaf, int64_t column, float* out) {
    const int64_t mine = std::min(columns, width - column);
    const int64_t begin = selection.leaf_begin[leaf], end = selection.leaf_begin[leaf + 1];
    const auto add_floats = [&](int64_t i, const void* weights, const void* next, DType dtype) {
      ops.add_neuron({.factors = factors + i * rows,
                      .rows = selection.rows[i],
                      .weights = weights,
                      .next = next,
                      .dtype = dtype,
                      .width = mine,
                      .out = out,
                      .stride = width});
    };
    if (!low_bit) {
      const auto row = [&](int64_t i) {
        return down.row(selection.neuron[std::min(i, end - 1)]) + column * weight_bytes(down.format());
      };
      const int64_t ahead = rows_ahead(mine * weight_bytes(down.format()));
      for (int64_t i = begin; i < end; ++i) add_floats(i, row(i), row(i + ahead), dtype_of(down.format()));
      return;
    }
    for (int64_t i = begin; i < end; ++i)
      if (masks[i] == 0) {
        const bf16* const kept = down.protected_row(selection.neuron[i]) + column;
        add_floats(i, kept, kept, DType::bf16);
      }
    const int bits = bits_of(down.format());
    ops.add_low_bit({.neurons = selection.neuron.data() + begin,
                     .masks = masks + begin,
                     .factors = factors + begin * rows,
                     .count = end - begin,
                     .rows = rows,
                     .bits = bits,
                     .weights = down.low_bit_row(0).from(bits, column / kGroup),
                     .row_bytes = down.stride_bytes(),
                     .width = mine,
                     .out = out,
                     .stride = width});
  };
  if (sums.one)
    return ctx.team().each(pieces, [&](int, int64_t piece) {
      for (int64_t leaf = 0; leaf < leaf_count; ++leaf) add_leaf(leaf, piece * columns, sums.data + piece * columns);
    });
  ctx.team().each(leaf_count * pieces, [&](int, int64_t task) {
    const int64_t leaf = task / pieces, column = task % pieces * columns;
    add_leaf(leaf, column, sums.data + leaf * rows * width + column);
  });
}

}  // namespace pleat
