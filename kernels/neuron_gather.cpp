#include "kernels/neuron_gather.h"

#include <algorithm>
#include <bit>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/low_bit_blocks.h"
#include "kernels/panel_product.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

constexpr int64_t kColumns = 512;     // of a down row, the smallest piece a thread takes
constexpr int64_t kSumFloats = 8192;  // sums that stay in the first-level cache while neurons are added
static_assert(kColumns % kGroup == 0);
static_assert(kColumns * kMaxSharedRows <= kMaxLowBitSums && kSumFloats <= kMaxLowBitSums);

constexpr int64_t kNear = 384 << 10;  // bytes that the second-level cache keeps while a leaf is worked on

// Pieces of a down row: the fewest, because memory likes long runs, whose sums of all rows stay in cache. Which does
// not change the bits: a sum's additions are the same in any piece.
int64_t piece_columns(int64_t rows) { return std::max(kColumns, kSumFloats / rows / kColumns * kColumns); }

// How many neurons before its turn a row is asked for: memory takes about as long to find it as 2 KB take to be read.
int64_t rows_ahead(int64_t row_bytes) { return 1 + 2048 / (row_bytes + 1); }

int64_t slots_of(int64_t groups) { return (groups + 15) / 16 * 16; }

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
  return round_up(x.rows * std::max(x.cols * int64_t(sizeof(float)),
                                    groups * kGroup + 2 * slots_of(groups) * int64_t(sizeof(float))));
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
  groups_ = w.groups(), slots_ = slots_of(groups_);
  int8_t* const q = reinterpret_cast<int8_t*>(scratch);
  float* const scales = reinterpret_cast<float*>(q + x_.rows * groups_ * kGroup);
  float* const sums = scales + x_.rows * slots_;
  split_groups(ctx, x_.rows * groups_, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / groups_, group = i % groups_, slot = row * slots_ + group;
      int32_t sum;
      quantise_group(ctx.isa(), x_, w.protected_masks(), row, group, q + i * kGroup, sum, scales[slot]);
      deal_to_lanes(q + i * kGroup);
      sums[slot] = scales[slot] * float(sum);
    }
  });
  for (int64_t row = 0; row < x_.rows; ++row)
    for (float* const values : {scales, sums})
      std::fill(values + row * slots_ + groups_, values + (row + 1) * slots_, 0.0f);
  q_ = q, scales_ = scales, sums_ = sums;
}

void GatheredInput::dots(Isa isa, const NeuronRows& w, const GatheredNeurons& neurons, float* out,
                         int64_t stride) const {
  const int64_t ahead = rows_ahead(w.row_bytes());
  if (is_low_bit(w.format())) {
    vector_ops(isa).low_bit_dots({.q = q_,
                                  .scales = scales_,
                                  .sums = sums_,
                                  .slots = slots_,
                                  .neurons = neurons.neuron,
                                  .masks = neurons.rows,
                                  .count = neurons.count,
                                  .listed = neurons.listed,
                                  .ahead = ahead,
                                  .bits = bits_of(w.format()),
                                  .groups = groups_,
                                  .weights = w.low_bit_row(0),
                                  .row_bytes = w.stride_bytes(),
                                  .out = out,
                                  .out_stride = stride});
    return add_protected(w, neurons, out, stride);
  }
  for (int64_t i = 0; i < neurons.count; ++i)
    vector_ops(isa).neuron_dots({.x = x_.data,
                                 .stride = x_.stride,
                                 .rows = neurons.rows[i],
                                 .weights = w.row(neurons.neuron[i]),
                                 .next = w.row(neurons.neuron[std::min(i + ahead, neurons.listed - 1)]),
                                 .dtype = dtype_of(w.format()),
                                 .width = w.width(),
                                 .out = out + i * stride});
}

void GatheredInput::add_protected(const NeuronRows& w, const GatheredNeurons& neurons, float* out,
                                  int64_t stride) const {
  const std::vector<int32_t>& inputs = w.protected_inputs();
  for (int64_t i = 0; i < neurons.count && !inputs.empty(); ++i) {
    const bf16* const weights = w.protected_weights(neurons.neuron[i]);
    float* to = out + i * stride;
    for (uint32_t rows = neurons.rows[i]; rows != 0; rows &= rows - 1, ++to) {
      const float* const x = x_[std::countr_zero(rows)];
      for (size_t k = 0; k < inputs.size(); ++k) *to += x[inputs[k]] * to_f32(weights[k]);
    }
  }
}

bool same_input(const NeuronRows& a, const NeuronRows& b) {
  return (a.format() == b.format() || (is_low_bit(a.format()) && is_low_bit(b.format()))) &&
         a.protected_inputs() == b.protected_inputs();
}

GatheredSums::GatheredSums(Context& ctx, const NeuronRows& down, const Selection& selection, float* factors,
                           int64_t rows, float* sums, bool one)
    : ops_(vector_ops(ctx.isa())),
      down_(down),
      selection_(selection),
      factors_(factors),
      rows_(rows),
      sums_(sums),
      one_(one) {
  PLEAT_ASSERT(down.protected_inputs().empty());
  if (!is_low_bit(down.format())) return;
  masks_ = selection.rows.data();
  if (down.protected_neurons().empty()) return;
  auto* const masks =
      static_cast<uint32_t*>(ctx.scratch(Context::panel_slot, selection.rows.size() * sizeof(uint32_t)));
  const auto begin = selection.neuron.begin(), end = begin + selection.count();
  std::copy_n(selection.rows.begin(), selection.count(), masks);
  for (const int32_t neuron : down.protected_neurons()) {
    const auto at = std::lower_bound(begin, end, neuron);
    if (at != end && *at == neuron) masks[at - begin] = 0;
  }
  masks_ = masks;
}

void GatheredSums::fetch(int64_t begin, int64_t end, int64_t together) const {
  const int64_t row_bytes = down_.row_bytes();
  int64_t first = 0;  // byte
  if (together * row_bytes > kNear) {
    if (!is_low_bit(down_.format())) return;
    first = reinterpret_cast<const std::byte*>(down_.low_bit_row(0).scales) - down_.row(0);  // short, read first
  }
  for (int64_t i = begin; i < end; ++i) {
    const std::byte* const row = down_.row(selection_.neuron[size_t(i)]);
    for (int64_t at = first; at < row_bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
  }
}

void GatheredSums::round(int64_t begin, int64_t end) const {
  for (int64_t i = begin; i < end && down_.format() == WeightFormat::bf16; ++i) {
    float* const mine = factors_ + i * rows_;
    ops_.round_to_bf16(mine, mine, std::popcount(selection_.rows[size_t(i)]));
  }
}

void GatheredSums::add_leaf(int64_t leaf) const {
  const int64_t columns = piece_columns(rows_);
  for (int64_t column = 0; column < down_.width(); column += columns)
    add(leaf, column, std::min(columns, down_.width() - column));
}

void GatheredSums::add_leaves(Context& ctx) const {
  const int64_t width = down_.width(), leaves = int64_t(selection_.leaf_begin.size()) - 1;
  int64_t columns = piece_columns(rows_);
  const int64_t apart = one_ ? 1 : leaves;  // sums that several threads may add to
  while (columns > kColumns && apart * ((width + columns - 1) / columns) < 4 * ctx.team().threads())
    columns -= kColumns;
  const int64_t pieces = (width + columns - 1) / columns;
  ctx.team().each(apart * pieces, [&](int, int64_t task) {
    const int64_t column = task % pieces * columns;
    const int64_t begin = one_ ? 0 : task / pieces, end = one_ ? leaves : begin + 1;
    for (int64_t leaf = begin; leaf < end; ++leaf) add(leaf, column, std::min(columns, width - column));
  });
}

void GatheredSums::add_floats(int64_t i, const void* weights, const void* next, DType dtype, int64_t columns,
                              float* out) const {
  ops_.add_neuron({.factors = factors_ + i * rows_,
                   .rows = selection_.rows[size_t(i)],
                   .weights = weights,
                   .next = next,
                   .dtype = dtype,
                   .width = columns,
                   .out = out,
                   .stride = down_.width()});
}

void GatheredSums::add(int64_t leaf, int64_t column, int64_t columns) const {
  const int64_t begin = selection_.leaf_begin[size_t(leaf)], end = selection_.leaf_begin[size_t(leaf) + 1];
  float* const out = sums_ + (one_ ? 0 : leaf * rows_ * down_.width()) + column;
  if (begin == end) return;
  if (!is_low_bit(down_.format())) {
    const auto row = [&](int64_t i) {
      return down_.row(selection_.neuron[size_t(std::min(i, end - 1))]) + column * weight_bytes(down_.format());
    };
    const int64_t ahead = rows_ahead(columns * weight_bytes(down_.format()));
    for (int64_t i = begin; i < end; ++i) add_floats(i, row(i), row(i + ahead), dtype_of(down_.format()), columns, out);
    return;
  }
  for (int64_t i = begin; i < end; ++i)
    if (masks_[i] == 0) {
      const bf16* const kept = down_.protected_row(selection_.neuron[size_t(i)]) + column;
      add_floats(i, kept, kept, DType::bf16, columns, out);
    }
  const int bits = bits_of(down_.format());
  ops_.add_low_bit({.neurons = &selection_.neuron[size_t(begin)],
                    .masks = masks_ + begin,
                    .factors = factors_ + begin * rows_,
                    .count = end - begin,
                    .rows = rows_,
                    .bits = bits,
                    .weights = down_.low_bit_row(0).from(bits, column / kGroup),
                    .row_bytes = down_.stride_bytes(),
                    .width = columns,
                    .out = out,
                    .stride = down_.width()});
}

}  // namespace pleat
