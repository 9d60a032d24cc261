#pragma once
// The exact FFN of a folded model: one neuron is one contiguous row, so that a few can be gathered; the same storage
// also serves the dense products of prompts.
#include <cstdint>
#include <vector>

#include "kernels/activation.h"
#include "kernels/matmul.h"

namespace pleat {

// [neurons, d], f32 or bf16, rows 64-byte aligned.
class NeuronRows {
 public:
  NeuronRows() = default;
  NeuronRows(WeightFormat format, int64_t neurons, int64_t width);
  // Copies block rows (inputs = neurons, outputs = columns) to the corner (neuron, column).
  void pack(int64_t neuron, int64_t column, const WeightBlock& block);

  // Row `neuron` [width] as f32 (an embedding).
  void unpack(int64_t neuron, float* values) const;

  WeightFormat format() const { return format_; }
  int64_t neurons() const { return neurons_; }
  int64_t width() const { return width_; }
  int64_t stride_bytes() const { return stride_bytes_; }
  const std::byte* row(int64_t neuron) const { return data_.as<std::byte>() + neuron * stride_bytes_; }
  size_t bytes() const { return data_.bytes(); }

 private:
  WeightFormat format_ = WeightFormat::f32;
  int64_t neurons_ = 0, width_ = 0, stride_bytes_ = 0;
  Buffer data_;
};

// y [m, neurons] = x [m, width] up^T + bias: bit for bit what matmul() gives with the same values packed.
void matmul_up(Context& ctx, MatrixView<const float> x, const NeuronRows& up, const float* bias, MatrixView<float> y);

// out [nodes][m, width]: bit for bit what matmul_nodes() gives with the same values packed. leaf_offsets are in
// neurons.
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
//   z_n = dot(x, up[n]) + b1_n with x rounded to the rows' format; r_n rounded likewise before the second product.
// Each union neuron's two rows are read once. Bits of a row do not depend on the other rows.
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

// out [nodes][n] = tree sums of leaves [leaves][n]; leaf 0 of `leaves` is the global leaf first_leaf.
void reduce_leaves(Context& ctx, const float* leaves, int first_leaf, const std::vector<TreeNode>& nodes, int64_t n,
                   float* out);

}  // namespace pleat
