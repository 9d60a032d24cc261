#pragma once
// Matrices of binary-coded planes with additive power-of-two scales (ShiftAddLLM, arXiv 2406.05981; method.md section
// 6), multiplied through look-up tables.
//
// Weights: W[n, k] = 2^e * sum over planes p of A_p * b_p, b_p in {-1, +1}. A scale A_p is a sum of two signed powers
// of two and an integer, 2^i + 2^j or 2^i - 2^j, the scales that meet in one weight add up to at most 127: a weight is
// 2^e times an integer of 8 bits. e is shared by 64 outputs and 64 inputs, A_p
//   column  by 64 outputs and one input            (accuracy)
//   block   by 8 outputs and 8 consecutive inputs  (speed)
// both 1/64 of a byte a weight and plane: 4.5, 3.375 and 2.25 bits a weight with 4, 3 and 2 planes. Neurons that are
// gathered have theirs by one output and 64 inputs: low_bit_row.h.
//
// Arithmetic, the same for every instruction set: x is quantised as low_bit.h says, to q and s by row and group of 64
// inputs. Over the groups g of a leaf, ascending, y from 0:
//   y += (s * 2^e) * sum_k q_k * (sum_p A_p b_p)
// the sum of integers exact (below 2^20), the outer sum a fused multiply-add. Protected inputs and leaves: low_bit.h.
// Kernels are free in how they make the exact sum. These use, as LUT-GEMM (arXiv 2206.09557) does, tables indexed by
// sign bits: the 2^planes sums of a table of scales, 16 bytes in a register, so that a byte shuffle looks up 32 weights
// at once, and dot products of bytes, which a batch shares the look-ups of.
#include <cstdint>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/low_bit.h"

namespace pleat {

constexpr int64_t kPlaneOutputs = 64;  // outputs that share a column's scales; and, with kGroup inputs, e
constexpr int64_t kPlaneBlock = 8;     // outputs, and inputs, that share a block's scales
constexpr int kPlaneLimit = 127;       // of the sum of the scales that meet in a weight

enum class PlaneScales : uint8_t { column, block };

// A scale as a byte: i at bits 0 to 2, j <= i at bits 3 to 5, bit 6 where 2^j is taken away, bit 7 clear.
constexpr bool is_plane_scale(uint8_t byte) { return byte < 128 && (byte >> 3 & 7) <= (byte & 7); }
constexpr int plane_scale_value(uint8_t byte) {
  const int first = 1 << (byte & 7), second = 1 << (byte >> 3 & 7);
  return byte & 64 ? first - second : first + second;
}
// The byte of a value that has one, else 255. 0 to 127.
uint8_t plane_scale_byte(int value);
// The values of the scales that meet in a weight. Error(invalid) for one, or their sum, out of bounds.
void plane_scale_values(const uint8_t* scales, int planes, uint8_t* values);

class PlanesMatrix : public ProtectedInputs {
 public:
  PlanesMatrix() = default;
  PlanesMatrix(int planes, int64_t outputs, int64_t inputs);  // planes: 2 to 4

  // Outputs [to, to + count) here are the outputs [first, first + count) of a checkpoint's matrix: scales are shared in
  // groups that count from that matrix's output 0, so those of every group that is touched are given:
  //   scales     column [groups of 64 outputs, inputs * planes], block [groups of 8, ceil(inputs / 8) * planes]
  //   exponents  [groups of 64 outputs, ceil(inputs / 64)]
  // `to` ascending, without gaps. Error(invalid) for a scale or a sum of scales out of bounds.
  void add(int64_t to, int64_t first, int64_t count, PlaneScales kind, const uint8_t* scales, const int8_t* exponents);
  // Signs of outputs that were added: codes [rows, ceil(inputs * planes / 8)], bit p of code k, at bit k * planes + p
  // of the row, set where b_p is +1.
  void pack(int64_t output, int64_t rows, const uint8_t* codes);

  // Output `output`'s weights [inputs] as f32.
  void row(int64_t output, float* values) const;

  // A group of 64 outputs of a checkpoint's matrix, some of which are held here.
  struct Block {
    PlaneScales kind = PlaneScales::column;
    int64_t output = 0;          // the first one held here
    int lane = 0, count = 0;     // which of the 64 it is; how many are held
    uint8_t* records = nullptr;  // [groups], see planes_blocks.h
    float* units = nullptr;      // [groups] 2^e
  };
  const std::vector<Block>& blocks() const { return blocks_; }  // ascending outputs

  int planes() const { return planes_; }
  size_t bytes() const;  // what one product streams

 private:
  const Block& block_of(int64_t output) const;
  void set_scales(const Block& block, int64_t group, int table, const uint8_t* scales);
  int planes_ = 2;
  std::vector<Block> blocks_;
  std::vector<Buffer> storage_;  // of their records and units
};

// As multiply_low_bit().
void multiply_planes(Context& ctx, MatrixView<const float> x, const PlanesMatrix& w, const LowBitLeaves& leaves,
                     const float* bias, float* out, int64_t row_stride, int64_t node_stride);

}  // namespace pleat
