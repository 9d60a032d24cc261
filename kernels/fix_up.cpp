#include <algorithm>
#include <array>
#include <bit>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/neuron_gather.h"
#include "kernels/neuron_rows.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

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
  PLEAT_ASSERT(int64_t(selection.neuron.size()) == down.neurons(), selection.neuron.size(), " and ", down.neurons(),
               " neurons");
  for (const NeuronRows* input : inputs)
    PLEAT_ASSERT(input->neurons() == down.neurons() && input->width() == down.width(), "[", input->neurons(), ", ",
                 input->width(), "] and down [", down.neurons(), ", ", down.width(), "]");
  const int64_t rows = x.rows;
  if (selection.count() == 0) return;

  const int64_t residual_bytes = GatheredInput::round_up(down.neurons() * rows * int64_t(sizeof(float)));
  const int64_t input_bytes = GatheredInput::bytes(x);
  auto* const scratch =
      static_cast<std::byte*>(ctx.scratch(Context::op_slot, size_t(residual_bytes + int64_t(kInputs) * input_bytes)));
  float* const residuals =
      reinterpret_cast<float*>(scratch);  // [count][rows], of each neuron as many as its mask has bits
  std::array<GatheredInput, kInputs> seen;
  for (size_t input = 0; input < kInputs; ++input)
    seen[input] = input > 0 && same_input(*inputs[input], *inputs[0])
                      ? seen[0]
                      : GatheredInput(ctx, x, *inputs[input], scratch + residual_bytes + int64_t(input) * input_bytes);

  const GatheredSums sums(ctx, down, selection, residuals, rows, leaves);
  gather_leaves(ctx, selection, sums, [&](int64_t begin, int64_t end) {
    constexpr int64_t kChunk = 16;
    float second[kChunk * kMaxSharedRows];
    for (int64_t at = begin; at < end; at += kChunk) {
      const int64_t stop = std::min(at + kChunk, end);
      sums.fetch(at, stop, end - begin);
      float* const products[2] = {residuals + at * rows, second};
      for (size_t input = 0; input < kInputs; ++input)
        seen[input].dots(ctx.isa(), *inputs[input], GatheredNeurons::of(selection, at, stop), products[input], rows);
      for (int64_t i = at; i < stop; ++i)
        to_residual(selection.neuron[size_t(i)], selection.rows[size_t(i)],
                    Dots{products[0] + (i - at) * rows, products[1] + (i - at) * rows});
    }
    sums.round(begin, end);
  });
}

// Memory for the factors of rows that stand by neuron, in ctx.scratch(op_slot).
float* factors_of(Context& ctx, MatrixView<const float> values, const NeuronRows& down, const Selection& selection) {
  PLEAT_ASSERT(values.rows <= kMaxSharedRows && values.cols == down.neurons(), values.rows, " x ", values.cols, " for ",
               down.neurons(), " neurons");
  PLEAT_ASSERT(int64_t(selection.neuron.size()) == down.neurons(), selection.neuron.size(), " and ", down.neurons(),
               " neurons");
  return static_cast<float*>(ctx.scratch(Context::op_slot, size_t(down.neurons() * values.rows) * sizeof(float)));
}

// The known values of the neurons [begin, end) as GatheredSums takes them.
void take_factors(MatrixView<const float> values, const Selection& selection, int64_t begin, int64_t end,
                  float* factors) {
  for (int64_t i = begin; i < end; ++i) {
    float* to = factors + i * values.rows;
    for (uint32_t mask = selection.rows[size_t(i)]; mask != 0; mask &= mask - 1)
      *to++ = values[std::countr_zero(mask)][selection.neuron[size_t(i)]];
  }
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

void add_known(Context& ctx, MatrixView<const float> residuals, const NeuronRows& down, const Selection& selection,
               float* leaves) {
  if (selection.count() == 0) return;
  float* const factors = factors_of(ctx, residuals, down, selection);
  const GatheredSums sums(ctx, down, selection, factors, residuals.rows, leaves);
  gather_leaves(ctx, selection, sums, [&](int64_t begin, int64_t end) {
    sums.fetch(begin, end, end - begin);
    take_factors(residuals, selection, begin, end, factors);
    sums.round(begin, end);
  });
}

void matmul_selected(Context& ctx, MatrixView<const float> x, const NeuronRows& by_input, const float* bias,
                     const Selection& selection, MatrixView<float> y) {
  PLEAT_ASSERT(y.rows == x.rows && y.cols == by_input.width() && y.stride == y.cols, "y [", y.rows, ", ", y.cols,
               "] of [", by_input.neurons(), ", ", by_input.width(), "]");
  for (int64_t row = 0; row < y.rows; ++row) std::copy_n(bias, y.cols, y[row]);
  if (selection.count() == 0) return;
  float* const factors = factors_of(ctx, x, by_input, selection);
  const GatheredSums sums(ctx, by_input, selection, factors, x.rows, y.data, /*one=*/true);
  ctx.team().split(selection.count(), [&](int, int64_t begin, int64_t end) {
    sums.fetch(begin, end, end - begin);
    take_factors(x, selection, begin, end, factors);
    sums.round(begin, end);
  });
  sums.add_leaves(ctx);
}

}  // namespace pleat
