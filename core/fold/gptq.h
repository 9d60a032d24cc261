#pragma once
// GPTQ (arXiv 2210.17323, gptq_columns.h) with the codes of kernels/low_bit.h.
#include <cstdint>
#include <span>
#include <vector>

#include "core/fold/gptq_grid.h"
#include "core/fold/products.h"
#include "kernels/predictor.h"

namespace pleat {

// [rows, inputs] as checkpoints store it (kernels/low_bit.h): weight = minimum + scale * code, 8 bits scale * (code -
// 128); of planes minimum + scale * the sum of the group's scales whose bits are set (kernels/low_bit_row.h).
struct LowBitRows {
  int bits = 2;  // or planes
  int64_t rows = 0, inputs = 0;
  std::vector<uint8_t> codes;               // [rows, ceil(inputs * bits / 8)]
  std::vector<int32_t> protected_inputs;    // held in bf16 instead, ascending
  std::vector<bf16> protected_weights;      // [rows, protected inputs]
  std::vector<bf16> scale, minimum;         // [rows, ceil(inputs / 64)]; no minimum at 8 bits
  std::vector<int32_t> protected_rows;      // held in bf16 as a whole, ascending (by_neuron only)
  std::vector<bf16> protected_row_weights;  // [protected rows, inputs]
  std::vector<uint8_t> plane_scales;        // of planes (kernels/low_bit_row.h) [rows, ceil(inputs / 64) * bits]

  LowBitRows() = default;
  LowBitRows(int bits, int64_t rows, int64_t inputs, bool planes = false);
  int64_t code_bytes() const { return (inputs * bits + 7) / 8; }  // of a row
  int64_t groups() const { return (inputs + kGroup - 1) / kGroup; }
  int code(int64_t row, int64_t input) const;
  void set_code(int64_t row, int64_t input, int code);  // over a zero
  float value(int64_t row, int64_t input) const;
  GroupGrid new_grid(const float* values, int64_t n) const;  // of a group's weights
  void set_grid(size_t group, const GroupGrid& grid);        // group: row * groups() + that of the row
  LowBitMatrix packed(int64_t begin, int64_t end) const;     // rows [begin, end)
};

// Rows in another order; an empty matrix stays one.
LowBitRows reordered(const LowBitRows& rows, std::span<const int32_t> order);

// w [rows, d]; second_moment [d, d] = sum of x x^T (empty: the identity, plain round to nearest).
//   1 bit: minimum = -s, scale = 2s with s the mean |w| of the group. 2 to 6 bits: the best of five clippings of the
//   group's range. 8 bits: scale = max |w| / 127.
// planes: `bits` of them, their scales fitted to the group's weights and rounded to sums of powers of two.
// activation_order: columns with the largest second moment first. A group's grid is made from its weights as
// compensated when the turn of its first column comes.
// protected_inputs: rounded to bf16 only, and out of the grids (kernels/low_bit.h).
// Scales and minimums are rounded to bf16 before a code is chosen: what was optimised is what is stored.
LowBitRows gptq(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment, int bits,
                bool activation_order = false, std::vector<int32_t> protected_inputs = {}, bool planes = false);

// The same for w [neurons, d], a matrix from neurons to d outputs, grouped along the outputs of one neuron, so that a
// neuron is one piece of memory; neuron_moment [neurons, neurons] of their activations.
LowBitRows gptq_by_neuron(Context& ctx, MatrixView<const float> w, const std::vector<double>& neuron_moment, int bits,
                          bool activation_order = false, std::vector<int32_t> protected_neurons = {},
                          bool planes = false);

}  // namespace pleat
