#pragma once
// Products with packed weights: decode at memory bandwidth, prefill near peak, and the same bits for a row whatever the
// other rows, the number of rows or the number of threads.
//
// Arithmetic, the same for every path of one instruction set: output n of row m is accumulated in f32 over ascending k,
// one accumulator, from 0, by fused multiply-adds where the processor has them. With bf16 weights the activation is
// rounded to bf16 first (round to nearest even); AMD's AVX-512 processors then accumulate a pair (k, k+1) in one
// dot-product step, all others with AVX2 or AVX-512 give the same bits. Low-bit formats: see low_bit.h
// and planes.h.
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/low_bit.h"
#include "kernels/planes.h"
#include "kernels/reduce_tree.h"
#include "kernels/tensor.h"

namespace pleat {

class Context;

enum class WeightFormat : uint8_t { f32, bf16, int8, int6, int5, int4, int3, int2, planes4, planes3, planes2 };
int bits_of(WeightFormat format);                                            // of a code; planes: their number
bool is_low_bit(WeightFormat format);                                        // 8 bits or fewer
bool has_planes(WeightFormat format);                                        // planes.h, not low_bit.h
int64_t matrix_bytes(WeightFormat format, int64_t inputs, int64_t outputs);  // scales included, padding not
std::string_view name_of(WeightFormat format);
WeightFormat weight_format_named(std::string_view name);  // Error(invalid)

constexpr int64_t kColumnBlock = 32;  // outputs packed side by side

// W [inputs, outputs]. f32 and bf16: stored [ceil(outputs / 32)][inputs (padded inside each leaf)][32]; bf16
// interleaves pairs of inputs. Low-bit formats: a LowBitMatrix or a PlanesMatrix.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // leaf_offsets: first input of each leaf, ascending, from 0, closed by `inputs` ({0, inputs}: one leaf; {0}: none, of
  // no inputs). Leaves may be empty. Low-bit: every offset is a multiple of kGroup or equals `inputs`.
  PackedMatrix(WeightFormat format, int64_t inputs, int64_t outputs, std::vector<int64_t> leaf_offsets);

  // f32 and bf16: copies a block of f32, bf16 or f16 (rounded to nearest even) whose corner is (input, output).
  void pack(int64_t input, int64_t output, const WeightBlock& block);
  // Low-bit: where to pack.
  LowBitMatrix& low_bit() { return low_bit_; }
  const LowBitMatrix& low_bit() const { return low_bit_; }
  PlanesMatrix& planes() { return planes_; }
  const PlanesMatrix& planes() const { return planes_; }

  // f32 and bf16: the weights of outputs [output, output + count) as they are, a row of inputs each, `stride` bytes
  // apart.
  void rows(int64_t output, int64_t count, std::byte* to, int64_t stride) const;
  // Output `output`'s weights [inputs] as f32 (a token's embedding where the head is tied).
  void column(int64_t output, float* values) const;

  WeightFormat format() const { return format_; }
  int64_t inputs() const { return inputs_; }
  int64_t outputs() const { return outputs_; }
  int leaves() const { return int(leaf_offsets_.size()) - 1; }
  const std::vector<int64_t>& leaf_offsets() const { return leaf_offsets_; }
  size_t bytes() const { return data_.bytes() + low_bit_.bytes() + planes_.bytes(); }  // what one product streams

 private:
  void pack_elements(int64_t input, int64_t output, const WeightBlock& block);
  void pack_panel(int64_t padded_input, int64_t output, const WeightBlock& block);

  friend struct PackedAccess;  // matmul.cpp and its instruction-set files
  WeightFormat format_ = WeightFormat::f32;
  int64_t inputs_ = 0, outputs_ = 0;
  std::vector<int64_t> leaf_offsets_;    // in inputs
  std::vector<int64_t> padded_offsets_;  // in packed inputs
  Buffer data_;
  LowBitMatrix low_bit_;
  PlanesMatrix planes_;
};

// y [m, outputs] = x [m, inputs] W + bias. W has one leaf. bias: [outputs] or nullptr.
void matmul(Context& ctx, MatrixView<const float> x, const PackedMatrix& w, const float* bias, MatrixView<float> y);

// Row-parallel product, summed as far as this rank can: nodes are ranges of leaves of W in *this matrix's* numbering
// whose sub-trees follow `TreeNode::middle` of the global tree; `first_leaf` is the global number of W's leaf 0.
//   out [nodes][m, outputs] = for each node (global leaf numbers) the tree sum of its leaves' partial products.
void matmul_nodes(Context& ctx, MatrixView<const float> x, const PackedMatrix& w, int first_leaf,
                  const std::vector<TreeNode>& nodes, float* out);

}  // namespace pleat
