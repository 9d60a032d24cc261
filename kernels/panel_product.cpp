#include "kernels/panel_product.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/many_rows.h"
#include "kernels/matmul_tile.h"
#include "kernels/packed_rows.h"

namespace pleat {
namespace {

static_assert(kPanelOutputs == kColumnBlock);

// One tile of rows times one or two panels.
struct TileProduct {
  const TileKernels& kernels;
  const PanelProduct& product;
  const PackedRows& x;
  int64_t first_row, height;
  int panels;
  Panel panel;
  TileKernel kernel;
  TileJob job;

  int64_t outputs() const { return panels * kColumnBlock; }

  void multiply_leaf(int leaf, float* into) {
    const int64_t at = product.padded_offsets[leaf];
    job.x = x.at(first_row, at, product.padded_offsets[leaf + 1] - at);
    job.weights = panel.weights + at * kColumnBlock * weight_bytes(product.format);
    job.inputs = product.padded_offsets[leaf + 1] - at;
    job.out = into;
    job.next_x = job.x;
    kernel(job);
  }

  void sum(TreeNode node, float* into) {
    if (node.leaves() == 1) return multiply_leaf(node.begin - product.first_leaf, into);
    alignas(64) float right[kTileFloats];
    sum({node.begin, node.middle()}, into);
    sum({node.middle(), node.end}, right);
    kernels.add(right, into, height * outputs());
  }
};

}  // namespace

const TileKernels& tile_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512_bf16) return tile_kernels_avx512_dot();
  if (isa == Isa::avx512) return tile_kernels_avx512();
  if (isa == Isa::avx2) return tile_kernels_avx2();
#endif
  (void)isa;
  return tile_kernels_portable();
}

int64_t weight_bytes(WeightFormat format) { return format == WeightFormat::f32 ? 4 : 2; }

void pad_leaves(WeightFormat format, std::span<const int64_t> leaf_offsets, int64_t* padded) {
  padded[0] = 0;
  for (size_t leaf = 0; leaf + 1 < leaf_offsets.size(); ++leaf) {
    const int64_t inputs = leaf_offsets[leaf + 1] - leaf_offsets[leaf];
    padded[leaf + 1] = padded[leaf] + (format == WeightFormat::bf16 ? (inputs + 1) / 2 * 2 : inputs);
  }
}

void multiply_panels(Context& ctx, MatrixView<const float> x, const PanelProduct& product, const PanelSource& source,
                     const PanelOutput& out) {
  const int leaves = int(product.leaf_offsets.size()) - 1;
  for (const TreeNode& node : product.nodes) {
    PLEAT_ASSERT(node.leaves() >= 1 && node.begin >= product.first_leaf && node.end <= product.first_leaf + leaves,
                 "node [", node.begin, ", ", node.end, ") of leaves from ", product.first_leaf, " on, ", leaves);
  }
  if (x.rows == 0 || product.nodes.empty()) return;
  const TileKernels& kernels = tile_kernels(ctx.isa());
  if (x.rows >= kManyRows) return multiply_many_rows(ctx, kernels, x, product, source, out);
  const Tiles tiles(x.rows, kernels.max_rows);
  const PackedRows packed = pack_rows(ctx, x, product, tiles, product.padded_offsets.back() + 1);
  const int64_t panels = (product.outputs + kColumnBlock - 1) / kColumnBlock;
  const bool pairs = source.neighbours() && x.rows <= kernels.max_pair_rows;

  // Panels in order, and for each its tiles of rows: a panel stays in the second-level cache meanwhile.
  ctx.team().split(panels * tiles.count, [&](int member, int64_t begin, int64_t end) {
    int64_t loaded = -1;
    Panel panel;
    for (int64_t index = begin; index < end;) {
      const int64_t column_block = index / tiles.count, tile = index % tiles.count;
      if (column_block != loaded) panel = source.panel(member, column_block);
      loaded = column_block;

      const int together = pairs && index + 1 < end ? 2 : 1;
      TileProduct work{kernels, product, packed, tiles.begin(tile), tiles.height(tile), together, panel, nullptr, {}};
      const int format = int(product.format);
      work.kernel = together == 2 ? kernels.pair[format][work.height] : kernels.one[format][work.height];
      if (together == 2) {
        const Panel next = source.panel(member, column_block + 1);
        work.job.next_weights = next.weights - panel.weights;
      }

      const int64_t output = column_block * kColumnBlock;
      const int64_t n = std::min(work.outputs(), product.outputs - output);
      float* corner = out.data + work.first_row * out.row_stride + output;
      for (const TreeNode& node : product.nodes) {
        alignas(64) float sums[kTileFloats];
        work.sum(node, sums);
        store_tile(sums, work.outputs(), work.height, n, out.bias ? out.bias + output : nullptr, corner,
                   out.row_stride);
        corner += out.node_stride;
      }
      index += together;
    }
  });
}

}  // namespace pleat
