#include "kernels/many_rows.h"

#include <algorithm>

#include "kernels/context.h"
#include "kernels/packed_rows.h"

namespace pleat {
namespace {

// What a member works on at a time: x of a tile stays in the first-level cache for a group of panels, weights and sums
// of the group in the second.
constexpr int64_t kBlock = 512;  // inputs
constexpr int64_t kGroupPanels = 4;
constexpr int64_t kMostLines = 16;  // of the next block's weights, fetched ahead by each tile
constexpr int64_t kLine = 64;       // bytes

// Panels side by side.
struct PanelGroup {
  const std::byte* first = nullptr;
  int64_t stride = 0;  // bytes
  int64_t count = 0;
  int64_t whole = 0;  // of all 32 outputs
};

// Sums of all rows that a node needs at once.
int levels_of(TreeNode node) {
  if (node.leaves() == 1) return 1;
  return std::max(levels_of({node.begin, node.middle()}), 1 + levels_of({node.middle(), node.end}));
}

// Some panels times all rows. Sums that are not done lie in levels, as on a stack: a leaf's at the level of the nodes
// that wait for it, and the last leaf of nodes adds what waits on the levels below.
struct ManyRows {
  const TileKernels& kernels;
  const PanelProduct& product;
  const PackedRows& x;
  const Tiles& tiles;
  PanelGroup panels;
  float* sums;  // [levels][panels][rows][32]

  int64_t panel_floats() const { return tiles.rows * kPanelOutputs; }
  int64_t level_floats() const { return panels.count * panel_floats(); }

  // To `level`, or after so many merges to rows of y.
  void multiply_leaf(int leaf, int level, int merges, const PanelOutput& y) const {
    const int64_t at = product.padded_offsets[size_t(leaf)], end = product.padded_offsets[size_t(leaf) + 1];
    for (int64_t k = at; k == at || k < end; k += kBlock) {
      const bool last = k + kBlock >= end;
      TileJob job;
      job.inputs = std::min(kBlock, end - k);
      job.go_on = k > at;
      job.merges = last ? merges : 0;
      job.level = level_floats();
      for (int64_t tile = 0; tile < tiles.count; ++tile)
        multiply_tile(tile, k, job, sums + level * level_floats(), last ? y : PanelOutput{});
    }
  }

  void multiply_tile(int64_t tile, int64_t k, TileJob job, float* into, const PanelOutput& y) const {
    const int64_t row = tiles.begin(tile), input_bytes = kPanelOutputs * weight_bytes(product.format);
    const int64_t lines = std::min(kMostLines, job.inputs * input_bytes / (kLine * tiles.count) + 1);
    job.x = x.at(row, k, job.inputs);
    job.next_x = x.at(tiles.begin(tile + 1), k, job.inputs);
    for (int64_t i = 0; i < panels.count; ++i) {
      job.weights = panels.first + i * panels.stride + k * input_bytes;
      const std::byte* const next_block = job.weights + (job.inputs * input_bytes + tile * lines * kLine);
      for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(next_block + line * kLine, 0, 2);
      job.out = into + i * panel_floats() + row * kPanelOutputs;
      if (y.data != nullptr && i < panels.whole) {
        job.y = y.data + row * y.row_stride + i * kPanelOutputs;
        job.y_stride = y.row_stride;
        job.bias = y.bias ? y.bias + i * kPanelOutputs : nullptr;
      } else {
        job.y = nullptr;
      }
      kernels.one[int(product.format)][tiles.height(tile)](job);
      job.next_x = job.x;
    }
  }

  // To `level`, or to rows of y.
  void sum(TreeNode node, int level, int merges, const PanelOutput& y) const {
    if (node.leaves() == 1) return multiply_leaf(node.begin - product.first_leaf, level, merges, y);
    sum({node.begin, node.middle()}, level, 0, {});
    sum({node.middle(), node.end}, level + 1, merges + 1, y);
  }
};

}  // namespace

void multiply_many_rows(Context& ctx, const TileKernels& kernels, MatrixView<const float> x,
                        const PanelProduct& product, const PanelSource& source, const PanelOutput& out) {
  const Tiles tiles(x.rows, kernels.max_rows);
  const PackedRows packed = pack_rows(ctx, x, product, tiles, kBlock);
  int levels = 0;
  for (const TreeNode& node : product.nodes) levels = std::max(levels, levels_of(node));
  const int64_t panels = (product.outputs + kPanelOutputs - 1) / kPanelOutputs, threads = ctx.team().threads();
  const int64_t most = source.neighbours() ? kGroupPanels : 1;
  // As many groups for each thread, if they are free together.
  const int64_t groups = std::min(panels, (panels + most * threads - 1) / (most * threads) * threads);
  const int64_t each = levels * most * tiles.rows * kPanelOutputs;
  auto* const memory = static_cast<float*>(ctx.scratch(Context::sums_slot, size_t(each * threads) * sizeof(float)));
  ctx.team().each(groups, [&](int member, int64_t group) {
    const int64_t begin = panels * group / groups, end = panels * (group + 1) / groups;
    const int64_t output = begin * kPanelOutputs, whole = product.outputs / kPanelOutputs;
    const Panel first = source.panel(member, begin);
    const int64_t stride = end - begin > 1 ? source.panel(member, begin + 1).weights - first.weights : 0;
    const ManyRows work{kernels,
                        product,
                        packed,
                        tiles,
                        {first.weights, stride, end - begin, std::min(end, whole) - begin},
                        memory + each * member};
    PanelOutput y{out.data + output, out.row_stride, 0, out.bias ? out.bias + output : nullptr};
    for (const TreeNode& node : product.nodes) {
      work.sum(node, 0, 0, y);
      if (end > whole) {  // the last panel, in part
        const int64_t at = (whole - begin) * kPanelOutputs;
        store_tile(work.sums + (whole - begin) * work.panel_floats(), kPanelOutputs, tiles.rows,
                   product.outputs - whole * kPanelOutputs, y.bias ? y.bias + at : nullptr, y.data + at, y.row_stride);
      }
      y.data += out.node_stride;
    }
  });
}

}  // namespace pleat
