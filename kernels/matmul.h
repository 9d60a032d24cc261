#pragma once
// Products with packed weights: decode at memory bandwidth, prefill near peak, and the same bits for a row whatever the
// other rows, the number of rows or the number of threads.
//
// Arithmetic, the same for every path of one instruction set: output n of row m is accumulated in f32 over ascending k,
// one accumulator, from 0, by fused multiply-adds where the processor has them. With bf16 weights the activation is
// rounded to bf16 first (round to nearest even); AMD's AVX-512 processors then accumulate a pair (k, k+1) in one
// dot-product step, all others with AVX2 or AVX-512 give the same bits. int8 weights: activations stay f32; codes of a
// group are accumulated, then added as scale * sum in ascending group order.
#include <cstdint>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/context.h"
#include "kernels/reduce_tree.h"
#include "kernels/tensor.h"

namespace pleat {

enum class WeightFormat : uint8_t { f32, bf16, int8 };

constexpr int64_t kColumnBlock = 32;  // outputs packed side by side
constexpr int64_t kGroup = 64;        // inputs that share a scale in int8 and low-bit formats

// W [inputs, outputs], stored [ceil(outputs / 32)][inputs (padded inside each leaf)][32]; bf16 interleaves pairs of
// inputs.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // leaf_offsets: first input of each leaf, ascending, from 0, closed by `inputs` ({0, inputs}: one leaf; {0}: none, of
  // no inputs). Leaves may be empty. int8: every offset is a multiple of kGroup or equals `inputs`.
  PackedMatrix(WeightFormat format, int64_t inputs, int64_t outputs, std::vector<int64_t> leaf_offsets);

  // Copies a block whose corner is (input, output). f32/bf16 formats take f32, bf16 and f16 blocks (rounded to nearest
  // even); int8 takes i8 codes.
  void pack(int64_t input, int64_t output, const WeightBlock& block);
  // int8 only: scales [ceil(inputs / kGroup), outputs] from group `group`, output `output` on; held in bf16.
  void pack_scales(int64_t group, int64_t output, const WeightBlock& block);

  // Output `output`'s weights [inputs] as f32 (a token's embedding where the head is tied). f32 and bf16 formats.
  void column(int64_t output, float* values) const;

  WeightFormat format() const { return format_; }
  int64_t inputs() const { return inputs_; }
  int64_t outputs() const { return outputs_; }
  int leaves() const { return int(leaf_offsets_.size()) - 1; }
  const std::vector<int64_t>& leaf_offsets() const { return leaf_offsets_; }
  size_t bytes() const { return data_.bytes() + scales_.bytes(); }  // what one product streams

 private:
  friend struct PackedAccess;  // matmul.cpp and its instruction-set files
  WeightFormat format_ = WeightFormat::f32;
  int64_t inputs_ = 0, outputs_ = 0;
  std::vector<int64_t> leaf_offsets_;    // in inputs
  std::vector<int64_t> padded_offsets_;  // in packed inputs
  Buffer data_, scales_;
};

// y [m, outputs] = x [m, inputs] W + bias. W has one leaf. bias: [outputs] or nullptr.
void matmul(Context& ctx, MatrixView<const float> x, const PackedMatrix& w, const float* bias, MatrixView<float> y);

// Row-parallel product, summed as far as this rank can: nodes are ranges of leaves of W in *this matrix's* numbering
// whose sub-trees follow `TreeNode::middle` of the global tree; `first_leaf` is the global number of W's leaf 0.
//   out [nodes][m, outputs] = for each node (global leaf numbers) the tree sum of its leaves' partial products.
void matmul_nodes(Context& ctx, MatrixView<const float> x, const PackedMatrix& w, int first_leaf,
                  const std::vector<TreeNode>& nodes, float* out);

}  // namespace pleat
