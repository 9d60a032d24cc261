#include "kernels/many_rows.h"

#include <algorithm>

#include "kernels/packed_rows.h"

namespace pleat {
#ifdef LAB
int64_t g_many_rows = 24;
#endif
namespace {

constexpr int64_t kItems = 4;      // of work a thread, at least
constexpr int64_t kLine = 64;  // bytes

#ifndef KB
#define KB 512
#endif
constexpr int64_t kBlock = KB;     // inputs: a tile of so many stays in the first-level cache, their weights in the second
// Sums of all rows that a node needs at once.
int levels_of(TreeNode node) {
  if (node.leaves() == 1) return 1;
  return std::max(levels_of({node.begin, node.middle()}), 1 + levels_of({node.middle(), node.end}));
}

// One panel times all rows. Sums that are not done lie in levels, as on a stack: a leaf's at the level of the nodes that
// wait for it, and the last leaf of nodes adds what waits on the levels below.
struct ManyRows {
  const TileKernels& kernels;
  const PanelProduct& product;
  const PackedRows& x;
  const Tiles& tiles;
  int64_t first_tile, last_tile;
  Panel panel;
  float* sums;  // [levels][rows][32]

  int64_t level_floats() const { return tiles.rows * kPanelOutputs; }

  // job: what is the same for all tiles of the leaf's last block but for y, which is row 0's.
  void multiply_leaf(int leaf, int level, TileJob job) const {
    const int64_t at = product.padded_offsets[size_t(leaf)], end = product.padded_offsets[size_t(leaf) + 1];
    const int64_t bytes = kPanelOutputs * weight_bytes(product.format);  // of an input
    for (int64_t k = at; k == at || k < end; k += kBlock) {
      const bool last = k + kBlock >= end;
      TileJob block = last ? job : TileJob{};
      block.inputs = std::min(kBlock, end - k);
      block.weights = panel.weights + k * bytes;
      block.go_on = k > at;
      block.level = level_floats();
      const std::byte* const next = block.weights + block.inputs * bytes;
      const int64_t lines = (block.inputs * bytes / kLine + last_tile - first_tile - 1) / (last_tile - first_tile);
      for (int64_t tile = first_tile; tile < last_tile; ++tile) {
        for (int64_t line = 0; line < lines; ++line)
          __builtin_prefetch(next + ((tile - first_tile) * lines + line) * kLine, 0, 2);
        const int64_t row = tiles.begin(tile);
        block.x = x.at(row, k, block.inputs);
        block.next_x = x.at(tiles.begin(tile + 1), k, block.inputs);
        block.out = sums + level * level_floats() + row * kPanelOutputs;
        if (job.y != nullptr && last) block.y = job.y + row * job.y_stride;
        kernels.one[int(product.format)][tiles.height(tile)](block);
      }
    }
  }

  // To `level`, or to job.y.
  void sum(TreeNode node, int level, TileJob job) const {
    if (node.leaves() == 1) return multiply_leaf(node.begin - product.first_leaf, level, job);
    sum({node.begin, node.middle()}, level, {});
    ++job.merges;
    sum({node.middle(), node.end}, level + 1, job);
  }
};

}  // namespace

void multiply_many_rows(Context& ctx, const TileKernels& kernels, MatrixView<const float> x,
                        const PanelProduct& product, const PanelSource& source, const PanelOutput& out) {
  const Tiles tiles(x.rows, kernels.max_rows);
  const PackedRows packed = pack_rows(ctx, x, product, tiles, kBlock);
  int levels = 0;
  for (const TreeNode& node : product.nodes) levels = std::max(levels, levels_of(node));
  const int64_t threads = ctx.team().threads(), each = levels * tiles.rows * kPanelOutputs;
  auto* const memory = static_cast<float*>(ctx.scratch(Context::sums_slot, size_t(each * threads) * sizeof(float)));
  // Panels go to whoever is free, in parts where there are few of them.
  const int64_t panels = (product.outputs + kPanelOutputs - 1) / kPanelOutputs;
  const int64_t parts = std::min(tiles.count, (kItems * threads + panels - 1) / panels);
  ctx.team().each(panels * parts, [&](int member, int64_t item) {
    const int64_t index = item / parts, part = item % parts;
    const int64_t first = tiles.count * part / parts, last = tiles.count * (part + 1) / parts;
    const ManyRows work{kernels, product, packed, tiles, first, last, source.panel(member, index), memory + each * member};
    const int64_t output = index * kPanelOutputs, n = std::min<int64_t>(kPanelOutputs, product.outputs - output);
    const float* const bias = out.bias ? out.bias + output : nullptr;
    float* corner = out.data + output;
    for (const TreeNode& node : product.nodes) {
      TileJob job;
      if (n == kPanelOutputs) {
        job.y = corner, job.y_stride = out.row_stride, job.bias = bias;
      }
      work.sum(node, 0, job);
      const int64_t row = tiles.begin(first);
      if (n < kPanelOutputs)
        store_tile(work.sums + row * kPanelOutputs, kPanelOutputs, tiles.begin(last) - row, n, bias,
                   corner + row * out.row_stride, out.row_stride);
      corner += out.node_stride;
    }
  });
}

}  // namespace pleat
