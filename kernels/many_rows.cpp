#include "kernels/many_rows.h"

#include <algorithm>

namespace pleat {
namespace {

constexpr int64_t kBlock = 128;  // inputs: their weights are half of a first-level cache

// Sums of all rows that a node needs at once.
int levels_of(TreeNode node) {
  if (node.leaves() == 1) return 1;
  return std::max(levels_of({node.begin, node.middle()}), 1 + levels_of({node.middle(), node.end}));
}

// What one member of the team works on.
struct ManyRows {
  const TileKernels& kernels;
  const PanelProduct& product;
  const PackedRows& rows;
  const Tiles& tiles;
  float* weights;  // [kBlock][32]
  float* sums;     // [levels][rows][32]
  Panel panel;

  float* level(int i) const { return sums + i * tiles.rows * kPanelOutputs; }

  void multiply_leaf(int leaf, float* into) const {
    const int64_t at = product.padded_offsets[size_t(leaf)], end = product.padded_offsets[size_t(leaf) + 1];
    for (int64_t k = at; k == at || k < end; k += kBlock) {
      const int64_t n = std::min(kBlock, end - k);
      const std::byte* block = panel.weights + k * kPanelOutputs * weight_bytes(product.format);
      if (product.format == WeightFormat::bf16) {
        kernels.expand(block, n, weights);
        block = reinterpret_cast<const std::byte*>(weights);
      }
      for (int64_t tile = 0; tile < tiles.count; ++tile) {
        const int64_t first = tiles.begin(tile), height = tiles.height(tile);
        kernels.one[0][height](
            {rows.at(first, height, k), block, 0, n, into + first * kPanelOutputs, /*go_on=*/k > at});
      }
    }
  }

  // To level(i).
  void sum(TreeNode node, int i) const {
    if (node.leaves() == 1) return multiply_leaf(node.begin - product.first_leaf, level(i));
    sum({node.begin, node.middle()}, i);
    sum({node.middle(), node.end}, i + 1);
    kernels.add(level(i + 1), level(i), tiles.rows * kPanelOutputs);
  }
};

}  // namespace

void multiply_many_rows(Context& ctx, const TileKernels& kernels, const PanelProduct& product, const PackedRows& rows,
                        const Tiles& tiles, const PanelSource& source, const PanelOutput& out) {
  int levels = 0;
  for (const TreeNode& node : product.nodes) levels = std::max(levels, levels_of(node));
  const int64_t each = (kBlock + levels * tiles.rows) * kPanelOutputs;
  auto* const memory =
      static_cast<float*>(ctx.scratch(Context::sums_slot, size_t(each * ctx.team().threads()) * sizeof(float)));
  ctx.team().split((product.outputs + kPanelOutputs - 1) / kPanelOutputs, [&](int member, int64_t begin, int64_t end) {
    float* const mine = memory + each * member;
    for (int64_t index = begin; index < end; ++index) {
      const ManyRows work{
          kernels, product, rows, tiles, mine, mine + kBlock * kPanelOutputs, source.panel(member, index)};
      const int64_t output = index * kPanelOutputs, n = std::min<int64_t>(kPanelOutputs, product.outputs - output);
      float* corner = out.data + output;
      for (const TreeNode& node : product.nodes) {
        work.sum(node, 0);
        store_tile(work.level(0), kPanelOutputs, tiles.rows, n, out.bias ? out.bias + output : nullptr, corner,
                   out.row_stride);
        corner += out.node_stride;
      }
    }
  });
}

}  // namespace pleat
