#pragma once
// The exact FFN of a folded model: one neuron is one contiguous row, so that a few can be gathered; the same storage
// also serves the dense products of prompts.
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/activation.h"
#include "kernels/low_bit_row.h"
#include "kernels/matmul.h"

namespace pleat {

// [neurons, d], rows 64-byte aligned. Low-bit weights are what low_bit.h says, in groups of kGroup along the row, of a
// down matrix too, and lie as low_bit_row.h says; so do binary-coded planes, whose scales are shared along the row too.
class NeuronRows {
 public:
  NeuronRows() = default;
  NeuronRows(WeightFormat format, int64_t neurons, int64_t width);
  NeuronRows(NeuronRows&&) = default;
  NeuronRows& operator=(NeuronRows&&) = default;

  // f32 and bf16: copies block rows (inputs = neurons, outputs = columns) to the corner (neuron, column).
  void pack(int64_t neuron, int64_t column, const WeightBlock& block);
  // Low-bit: neurons from `neuron` on as checkpoints store them, see LowBitMatrix::pack(); scale and minimum
  // [rows, ceil(width / 64)]. Of planes also plane_scales [rows, ceil(width / 64) * planes], scales as planes.h encodes
  // them: Error(invalid) for one, or a sum of them, out of bounds.
  void pack_low_bit(int64_t neuron, int64_t rows, const uint8_t* codes, const bf16* scale, const bf16* minimum,
                    const uint8_t* plane_scales = nullptr);

  // Low-bit: inputs held in bf16 instead, as in LowBitMatrix, for rows that x is multiplied with. Ascending; once,
  // before pack_protected(). Best before pack_low_bit() too: rows that outgrow their stride move to new memory.
  void protect(std::vector<int32_t> inputs);
  const std::vector<int32_t>& protected_inputs() const { return protected_inputs_; }
  // values [rows, stride >= protected inputs] of neurons from `neuron` on.
  void pack_protected(int64_t neuron, int64_t rows, const bf16* values, int64_t stride);

  // Low-bit: a few neurons with extreme activations whose rows are held in bf16 instead, for rows that are added.
  // Ascending; once, before pack_protected_neuron().
  void protect_neurons(std::vector<int32_t> neurons);
  const std::vector<int32_t>& protected_neurons() const { return protected_neurons_; }
  // values [width] of the neuron at `place` in the list.
  void pack_protected_neuron(int64_t place, const bf16* values);

  // Row `neuron` [width] as f32 (an embedding).
  void unpack(int64_t neuron, float* values) const;

  WeightFormat format() const { return format_; }
  int64_t neurons() const { return neurons_; }
  int64_t width() const { return width_; }
  int64_t stride_bytes() const { return stride_bytes_; }
  const std::byte* row(int64_t neuron) const { return first_ + neuron * stride_bytes_; }
  size_t bytes() const { return size_t(neurons_ * place_bytes()) + protected_rows_.bytes(); }
  int64_t row_bytes() const;    // what gathering one neuron streams
  int64_t place_bytes() const;  // the same, aligned: the stride, unless they lie side by side with others

  // Low-bit, for the kernels.
  int64_t groups() const { return (width_ + kGroup - 1) / kGroup; }
  LowBitRow low_bit_row(int64_t neuron) const;
  const bf16* protected_weights(int64_t neuron) const;  // [protected inputs]
  const bf16* protected_row(int64_t neuron) const;      // [width], or nullptr where the neuron is not protected
  const std::vector<uint64_t>& protected_masks() const { return protected_masks_; }  // see LowBitMatrix
  // Weights [rows, columns] from (neuron, column) on as f32, by the kernels of an instruction set (same bits from all).
  // column, columns: multiples of 16; those past the end of the row, as far as its last group goes, may be anything.
  void unpack_block(Isa isa, int64_t neuron, int64_t rows, int64_t column, int64_t columns, float* out,
                    int64_t stride) const;

 private:
  int64_t plane_scales_offset() const;
  int64_t protected_weights_offset() const;

  friend void lay_side_by_side(std::span<NeuronRows* const> matrices);
  std::byte* place(int64_t neuron) { return first_ + neuron * stride_bytes_; }

  WeightFormat format_ = WeightFormat::f32;
  int64_t neurons_ = 0, width_ = 0, stride_bytes_ = 0;
  std::shared_ptr<const Buffer> data_;  // of neuron rows that lie side by side
  std::byte* first_ = nullptr;          // row 0
  std::vector<int32_t> protected_inputs_, protected_neurons_;
  std::vector<uint64_t> protected_masks_;  // [groups], or empty
  Buffer protected_rows_;                  // bf16 [protected neurons, width]
};

// Moves packed rows of the same neurons, so that those of one neuron are one run of memory: the processor, which reads
// on past the end of a run, then reads what is gathered next.
void lay_side_by_side(std::span<NeuronRows* const> matrices);

// y [m, neurons] = x [m, width] up^T + bias: bit for bit what matmul() gives with the same values packed; low-bit
// weights as f32, x not rounded.
void matmul_up(Context& ctx, MatrixView<const float> x, const NeuronRows& up, const float* bias, MatrixView<float> y);

// y [m, width] = x [m, inputs] by_input + bias, rows being inputs: bit for bit what matmul() gives with the same values
// packed; low-bit weights as f32, x not rounded.
void matmul_by_input(Context& ctx, MatrixView<const float> x, const NeuronRows& by_input, const float* bias,
                     MatrixView<float> y);

// out [nodes][m, width]: bit for bit what matmul_nodes() gives with the same values packed, low-bit ones as f32.
// leaf_offsets are in neurons.
void matmul_down(Context& ctx, MatrixView<const float> a, const NeuronRows& down,
                 const std::vector<int64_t>& leaf_offsets, int first_leaf, const std::vector<TreeNode>& nodes,
                 float* out);

// Fallback sets S(x) of up to 32 rows, as their union with a mask a neuron. Sized once, for all neurons of a rank.
struct Selection {
  explicit Selection(std::vector<int64_t> leaf_offsets);  // in neurons of this rank
  void clear();

  std::vector<int64_t> leaf_offsets;  // [leaves + 1] neuron ranges
  std::vector<int32_t> neuron;        // [neurons] capacity; the first leaf_end.back() are valid, ascending
  std::vector<uint32_t> rows;         // [neurons] bit m: row m computes this neuron exactly
  std::vector<int32_t> leaf_begin;    // [leaves + 1] into neuron/rows
  int64_t count() const { return leaf_begin.back(); }  // size of the union
  int64_t row_count(int row) const;                    // |S| of one row

  // From a mask for every neuron in `rows` to the lists above.
  void gather(Context& ctx);
};

// What a neuron's exact part needs besides its two rows (method.md equation 2): r = act(z) - (slope z + intercept).
struct Residual {
  const float* bias = nullptr;       // b1 [neurons]
  const float* slope = nullptr;      // a  [neurons]
  const float* intercept = nullptr;  // c  [neurons]
};

// leaves [leaves][m, width] += sum over n in S(row) and leaf, ascending, of r_n(row) * down[n].   m <= kMaxSharedRows.
//   z_n = dot(x, up[n]) + b1_n
// leaves: best 64-byte aligned. Each union neuron's two rows are read once; they may differ in format. Bits of a row do
// not depend on the other rows, nor on threads or instruction set:
//   z, bf16: x is rounded to bf16. Low-bit: x is quantised to q and s by group as in low_bit.h, 0 at protected inputs.
//     Lane l of 16 takes the inputs 16 i + l of a group, i = 0 to 3. Over the groups g, ascending, both from 0:
//       codes_l      = fma(scale_g * s_g, sum over i of code * q, codes_l)      8 bits: code - 128
//       minimums_l   = fma(minimum_g, s_g * sum(q_g), minimums_l), l = g mod 16     8 bits: none
//     the sums of integers exact. codes_l + minimums_l are added by halves; then for each protected input, ascending,
//     z += x * (its weight in bf16).
//   r down[n], bf16: r is rounded to bf16. Low-bit: first the protected neurons, out = fma(r, weight, out); then with
//     f_n = r_n scale_ng, for each group g of 64 outputs, over the leaf's other neurons in S(row), ascending,
//       s   = max |f_n| / 127,   q_n = round(f_n / s) to nearest, ties to even
//       m   = fma(r_n, fma(2^(bits - 1), scale_ng, minimum_ng), m), from 0     8 bits: m = 0
//       out = out + fma(s, sum of q_n code_n - 2^(bits - 1) sum of q_n, m)     planes: 64 for 2^(bits - 1)
//     the sums of integers exact: activations quantised as in low_bit.h, to which a weight's middle is an exact term.
void fix_up(Context& ctx, MatrixView<const float> x, const NeuronRows& up, const NeuronRows& down,
            const Residual& residual, Activation activation, const Selection& selection, float* leaves);

// Of gated neurons (method.md equation 3): r = act(g) u - (c u + e g + f).
struct GatedLines {
  const float* up_slope = nullptr;    // c  [neurons]
  const float* gate_slope = nullptr;  // e  [neurons]
  const float* intercept = nullptr;   // f  [neurons]
};

// S(row) = the neurons with |act(g_n) - c_n| factor_n > threshold, factor_n being what an error of the difference costs
// (rms(u_n) |w_n|); replaces the selection's content.   activated [m, neurons], m <= kMaxSharedRows.
void select_by_gate(Context& ctx, MatrixView<const float> activated, const float* up_slope, const float* factor,
                    float threshold, Selection& selection);

// S(row) = the i with |values[row, i]| > threshold; replaces the selection's content.   values [m, n], m <=
// kMaxSharedRows.
void select_by_magnitude(Context& ctx, MatrixView<const float> values, float threshold, Selection& selection);

// S(row) = the neurons with |act(g_n) u_n - (c_n u_n + e_n g_n + f_n)| factor_n > threshold, factor_n being |w_n|;
// replaces the selection's content.   up, gate [m, neurons], predictions of u and g; m <= kMaxSharedRows.
void select_by_residual(Context& ctx, MatrixView<const float> up, MatrixView<const float> gate, Activation activation,
                        const GatedLines& lines, const float* factor, float threshold, Selection& selection);

// fix_up() of a gated FFN whose gates are known: u_n = dot(x, up[n]) + bu_n.
struct KnownGates {
  MatrixView<const float> gate;       // g      [m, neurons]
  MatrixView<const float> activated;  // act(g) [m, neurons]
};
void fix_up_gated(Context& ctx, MatrixView<const float> x, const NeuronRows& up, const NeuronRows& down,
                  const float* up_bias, const GatedLines& lines, const KnownGates& gates, const Selection& selection,
                  float* leaves);

// The same where they are not: g_n = dot(x, gate[n]) + bg_n, a third row of each union neuron.
void fix_up_gated(Context& ctx, MatrixView<const float> x, const NeuronRows& gate, const NeuronRows& up,
                  const NeuronRows& down, const float* gate_bias, const float* up_bias, const GatedLines& lines,
                  Activation activation, const Selection& selection, float* leaves);

// leaves [leaves][m, width] += sum over n in S(row) and leaf, ascending, of residuals[row, n] * down[n], as fix_up()
// adds them, where every neuron's residual (or activation) is known.   residuals [m, neurons], m <= kMaxSharedRows.
void add_known(Context& ctx, MatrixView<const float> residuals, const NeuronRows& down, const Selection& selection,
               float* leaves);

// y [m, width] = bias + sum over inputs i in S(row) of x[row, i] * by_input[i]: to the bias each leaf of inputs, in
// their order, is added as fix_up() adds neurons.   m <= kMaxSharedRows; y's rows side by side.
void matmul_selected(Context& ctx, MatrixView<const float> x, const NeuronRows& by_input, const float* bias,
                     const Selection& selection, MatrixView<float> y);

// out [nodes][n] = tree sums of leaves [leaves][n]; leaf 0 of `leaves` is the global leaf first_leaf.
void reduce_leaves(Context& ctx, const float* leaves, int first_leaf, const std::vector<TreeNode>& nodes, int64_t n,
                   float* out);

}  // namespace pleat
