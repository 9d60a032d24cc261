#pragma once
// What matmul() and its relatives share: rows of activations times panels of 32 outputs, however the panels come about.
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/context.h"
#include "kernels/matmul.h"

namespace pleat {

struct TileKernels;
const TileKernels& tile_kernels(Isa isa);

// Bytes of one weight in a panel.
int64_t weight_bytes(WeightFormat format);

// padded[i]: where leaf i starts in a panel. bf16 pads every leaf to whole pairs of inputs; nothing else is padded.
void pad_leaves(WeightFormat format, std::span<const int64_t> leaf_offsets, int64_t* padded);

struct Panel {
  const std::byte* weights = nullptr;  // [padded inputs][32], bf16 in pairs: see TileJob
};

class PanelSource {
 public:
  virtual ~PanelSource() = default;
  // Valid until the same member of the team asks for another panel, or for good if neighbours().
  virtual Panel panel(int member, int64_t index) const = 0;
  // Whether panel i + 1 follows panel i at a fixed distance.
  virtual bool neighbours() const { return false; }
};

struct PanelProduct {
  WeightFormat format = WeightFormat::f32;
  int64_t outputs = 0;
  std::span<const int64_t> leaf_offsets;    // in inputs
  std::span<const int64_t> padded_offsets;  // the same leaves in a panel
  int first_leaf = 0;                       // global number of leaf 0
  std::span<const TreeNode> nodes;          // global numbers
};

struct PanelOutput {
  float* data = nullptr;
  int64_t row_stride = 0;
  int64_t node_stride = 0;
  const float* bias = nullptr;  // [outputs] or nullptr
};

// out[node, row, n] = tree sum over the node's leaves of x[row, leaf] W[leaf, n] (+ bias[n]). Uses
// ctx.scratch(op_slot and sums_slot).
void multiply_panels(Context& ctx, MatrixView<const float> x, const PanelProduct& product, const PanelSource& source,
                     const PanelOutput& out);

}  // namespace pleat
