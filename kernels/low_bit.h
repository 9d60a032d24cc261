#pragma once
// Matrices of 1 to 8 bits a weight, multiplied by the processor's dot products of bytes (method.md section 6).
//
// Weights: a group of kGroup inputs of an output shares a scale and a minimum in bf16, weight = minimum + scale * code;
// 8 bits are symmetric and have no minimum, weight = scale * (code - 128).
//
// Arithmetic, the same for every instruction set: x is quantised to int8 by row and group, s = max|x| / 127 (0 for a
// zero group), q = round to nearest even(x / s). Over the groups g of a leaf, ascending, y from 0:
//   y += s * (scale * (codes . q) + minimum * sum(q))      8 bits: y += s * (scale * ((codes - 128) . q))
// the sums of integers exact, the outer sums fused multiply-adds. Protected inputs are 0 in q; for each of a leaf's,
// ascending, y += x * (its weight in bf16) after the groups. Leaves are then added along the tree.
#include <cstdint>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/dtype.h"
#include "kernels/protected_inputs.h"
#include "kernels/reduce_tree.h"
#include "kernels/tensor.h"

namespace pleat {

class Context;

constexpr int kMaxSharedRows = 32;  // rows that share one pass over the weights

class LowBitMatrix : public ProtectedInputs {
 public:
  LowBitMatrix() = default;
  LowBitMatrix(int bits, int64_t outputs, int64_t inputs);  // bits: 1 to 6, or 8

  // Rows (an output each) as checkpoints store them: codes [rows, ceil(inputs * bits / 8)], code k at bits [k * bits,
  // (k + 1) * bits) of the row, least significant first; scale and minimum [rows, ceil(inputs / 64)]. minimum: nullptr
  // for 8 bits.
  void pack(int64_t output, int64_t rows, const uint8_t* codes, const bf16* scale, const bf16* minimum);

  // Output `output`'s weights [inputs] as f32.
  void row(int64_t output, float* values) const;
  // What was packed: an output's codes of a group (zeros past the last input), its scale and minimum (0 at 8 bits).
  void codes(int64_t output, int64_t group, uint8_t (&codes)[kGroup]) const;
  bf16 scale(int64_t output, int64_t group) const;
  bf16 minimum(int64_t output, int64_t group) const;

  int bits() const { return bits_; }
  size_t bytes() const {  // what one product streams
    return codes_.bytes() + scales_.bytes() + protected_bytes();
  }

 private:
  friend struct LowBitAccess;
  int bits_ = 2;
  Buffer codes_, scales_;  // packed for the kernels: see low_bit_blocks.h
};

// Which inputs are summed apart: leaf_offsets as in PackedMatrix (multiples of kGroup, or the end), nodes and
// first_leaf as in matmul_nodes().
struct LowBitLeaves {
  const std::vector<int64_t>& offsets;
  int first_leaf = 0;
  const TreeNode* nodes = nullptr;
  int64_t count = 0;  // of nodes
};

// out[node * node_stride + row * row_stride + n] = node's sum (+ bias[n]).
void multiply_low_bit(Context& ctx, MatrixView<const float> x, const LowBitMatrix& w, const LowBitLeaves& leaves,
                      const float* bias, float* out, int64_t row_stride, int64_t node_stride);

}  // namespace pleat
