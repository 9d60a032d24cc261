#include <algorithm>
#include <array>
#include <bit>

#include "kernels/check.h"
#include "kernels/neuron_rows.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

constexpr int64_t kColumns = 512;     // of a down row, the smallest piece a thread takes
constexpr int64_t kSumFloats = 8192;  // sums that stay in the first-level cache while neurons are added

// Pieces of a down row: the fewest, because memory likes long runs, whose sums of all rows stay in cache and that give
// every thread work. Which does not change the bits: a sum's additions are the same in any piece.
int64_t piece_columns(int64_t width, int64_t rows, int64_t leaves, int threads) {
  int64_t columns = std::max(kColumns, kSumFloats / rows / kColumns * kColumns);
  while (columns > kColumns && leaves * ((width + columns - 1) / columns) < 4 * threads) columns -= kColumns;
  return columns;
}

DType dtype_of(WeightFormat format) { return format == WeightFormat::f32 ? DType::f32 : DType::bf16; }

float residual_of(const GatedLines& lines, int32_t neuron, float u, float g, float activated) {
  return (activated - lines.up_slope[neuron]) * u - (lines.gate_slope[neuron] * g + lines.intercept[neuron]);
}

// Everything a neuron needs of a row before its residual: one dot product with each of `inputs`.
using Dots = std::array<float*, 2>;

// to_residual(neuron, mask, dots): dots[i][k], the product of the k-th set bit's row with inputs[i], goes in; the
// residual comes out in dots[0].
template <size_t kInputs, class ToResidual>
void add_residuals(Context& ctx, MatrixView<const float> x, const std::array<const NeuronRows*, kInputs>& inputs,
                   const NeuronRows& down, const Selection& selection, float* leaves, ToResidual to_residual) {
  PLEAT_ASSERT(x.rows <= kMaxSharedRows && x.cols == down.width(), x.rows, " x ", x.cols, " for width ", down.width());
  for (const NeuronRows* rows : inputs)
    PLEAT_ASSERT(rows->format() == down.format() && rows->neurons() == down.neurons() && rows->width() == down.width());
  PLEAT_ASSERT(int64_t(selection.neuron.size()) == down.neurons(), selection.neuron.size(), " and ", down.neurons(),
               " neurons");
  const int64_t count = selection.count(), width = down.width(), rows = x.rows;
  if (count == 0) return;
  const VectorOps& ops = vector_ops(ctx.isa());
  const DType dtype = dtype_of(down.format());
  const bool rounds = dtype == DType::bf16;

  float* const rounded =
      static_cast<float*>(ctx.scratch(Context::op_slot, size_t((down.neurons() + width) * rows) * sizeof(float)));
  float* const residuals = rounded + width * rows;  // [count][rows], of each neuron as many as its mask has bits
  if (rounds) {
    for (int64_t row = 0; row < rows; ++row) ops.round_to_bf16(x[row], rounded + row * width, width);
    x = {rounded, rows, width};
  }

  ctx.team().split(count, [&](int, int64_t begin, int64_t end) {
    float second[kMaxSharedRows];
    for (int64_t i = begin; i < end; ++i) {
      const int32_t neuron = selection.neuron[i], next = selection.neuron[std::min(i + 1, end - 1)];
      const Dots dots = {residuals + i * rows, second};
      for (size_t input = 0; input < kInputs; ++input)
        ops.neuron_dots({.x = x.data,
                         .stride = x.stride,
                         .rows = selection.rows[i],
                         .weights = inputs[input]->row(neuron),
                         .next = inputs[input]->row(next),
                         .dtype = dtype,
                         .width = width,
                         .out = dots[input]});
      to_residual(neuron, selection.rows[i], dots);
      if (rounds) ops.round_to_bf16(dots[0], dots[0], std::popcount(selection.rows[i]));
    }
  });

  const int64_t leaf_count = int64_t(selection.leaf_begin.size()) - 1;
  const int64_t columns = piece_columns(width, rows, leaf_count, ctx.team().threads());
  const int64_t pieces = (width + columns - 1) / columns;
  const int64_t size = int64_t(size_of(dtype));
  ctx.team().each(leaf_count * pieces, [&](int, int64_t task) {
    const int64_t leaf = task / pieces, column = task % pieces * columns;
    const int64_t end = selection.leaf_begin[leaf + 1];
    for (int64_t i = selection.leaf_begin[leaf]; i < end; ++i)
      ops.add_neuron({.factors = residuals + i * rows,
                      .rows = selection.rows[i],
                      .weights = down.row(selection.neuron[i]) + column * size,
                      .next = down.row(selection.neuron[std::min(i + 1, end - 1)]) + column * size,
                      .dtype = dtype,
                      .width = std::min(columns, width - column),
                      .out = leaves + leaf * rows * width + column,
                      .stride = width});
  });
}

}  // namespace

void fix_up(Context& ctx, MatrixView<const float> x, const NeuronRows& up, const NeuronRows& down,
            const Residual& residual, Activation activation, const Selection& selection, float* leaves) {
  const auto activate_row = vector_ops(ctx.isa()).activate;
  add_residuals<1>(ctx, x, {&up}, down, selection, leaves, [&](int32_t neuron, uint32_t rows, const Dots& dots) {
    const int active = std::popcount(rows);
    float* const r = dots[0];
    float line[kMaxSharedRows];
    for (int k = 0; k < active; ++k) {
      if (residual.bias) r[k] += residual.bias[neuron];
      line[k] = residual.slope[neuron] * r[k] + residual.intercept[neuron];
    }
    activate_row(activation, r, active);
    for (int k = 0; k < active; ++k) r[k] -= line[k];
  });
}

void fix_up_gated(Context& ctx, MatrixView<const float> x, const NeuronRows& up, const NeuronRows& down,
                  const float* up_bias, const GatedLines& lines, const KnownGates& gates, const Selection& selection,
                  float* leaves) {
  add_residuals<1>(ctx, x, {&up}, down, selection, leaves, [&](int32_t neuron, uint32_t rows, const Dots& dots) {
    float* r = dots[0];
    for (; rows != 0; rows &= rows - 1, ++r) {
      const int row = std::countr_zero(rows);
      *r = residual_of(lines, neuron, *r + up_bias[neuron], gates.gate[row][neuron], gates.activated[row][neuron]);
    }
  });
}

void fix_up_gated(Context& ctx, MatrixView<const float> x, const NeuronRows& gate, const NeuronRows& up,
                  const NeuronRows& down, const float* gate_bias, const float* up_bias, const GatedLines& lines,
                  Activation activation, const Selection& selection, float* leaves) {
  const auto activate_row = vector_ops(ctx.isa()).activate;
  add_residuals<2>(ctx, x, {&up, &gate}, down, selection, leaves, [&](int32_t neuron, uint32_t rows, const Dots& dots) {
    const int active = std::popcount(rows);
    float activated[kMaxSharedRows];
    for (int k = 0; k < active; ++k) activated[k] = dots[1][k] += gate_bias[neuron];
    activate_row(activation, activated, active);
    for (int k = 0; k < active; ++k)
      dots[0][k] = residual_of(lines, neuron, dots[0][k] + up_bias[neuron], dots[1][k], activated[k]);
  });
}

}  // namespace pleat
