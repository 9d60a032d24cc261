#include "kernels/panel_product.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/many_rows.h"
#include "kernels/matmul_tile.h"
#include "kernels/packed_rows.h"

namespace pleat {
namespace {

static_assert(kPanelOutputs == kColumnBlock);

constexpr int64_t kChunk = 256;  // inputs converted at a time

// One row's inputs [begin, begin + n) of a leaf to every `height`th place of its tile.
void scatter_f32(const float* x, int64_t n, int64_t height, bool round, float* out) {
  if (!round) {
    for (int64_t k = 0; k < n; ++k) out[k * height] = x[k];
    return;
  }
  for (int64_t k = 0; k < n; ++k) out[k * height] = to_f32(to_bf16(x[k]));
}

void scatter_pairs(const float* x, int64_t n, int64_t height, uint32_t* out) {
  uint16_t rounded[kChunk + 1];
  for (int64_t k = 0; k < n; ++k) rounded[k] = to_bf16(x[k]).bits;
  rounded[n] = 0;
  for (int64_t k = 0; k < n; k += 2) out[k / 2 * height] = uint32_t(rounded[k]) | uint32_t(rounded[k + 1]) << 16;
}

class RowPacker {
 public:
  RowPacker(MatrixView<const float> x, const PanelProduct& product, const Tiles& tiles, bool pairs, std::byte* out)
      : x_(x),
        product_(product),
        tiles_(tiles),
        pairs_(pairs),
        rows_{out, pairs ? 2 : 4, product.padded_offsets.back()},
        out_(out) {}

  const PackedRows& rows() const { return rows_; }

  // The padded inputs [begin, end) of all rows; begin is even.
  void pack(int64_t begin, int64_t end) const {
    for (size_t leaf = 0; leaf + 1 < product_.leaf_offsets.size(); ++leaf) {
      const int64_t leaf_begin = product_.padded_offsets[leaf];
      const int64_t first = std::max(begin, leaf_begin);
      const int64_t last = std::min(end, product_.padded_offsets[leaf + 1]);
      for (int64_t at = first; at < last; at += kChunk) {
        const int64_t input = product_.leaf_offsets[leaf] + at - leaf_begin;
        const int64_t n = std::min({kChunk, last - at, product_.leaf_offsets[leaf + 1] - input});
        for (int64_t tile = 0; tile < tiles_.count; ++tile) pack_tile(tile, at, input, n);
      }
    }
  }

 private:
  void pack_tile(int64_t tile, int64_t at, int64_t input, int64_t n) const {
    const int64_t first_row = tiles_.begin(tile), height = tiles_.height(tile);
    std::byte* out = out_ + (rows_.at(first_row, height, at) - rows_.data);
    for (int64_t row = 0; row < height; ++row) {
      const float* x = x_[first_row + row] + input;
      if (pairs_) {
        scatter_pairs(x, n, height, reinterpret_cast<uint32_t*>(out) + row);
      } else {
        scatter_f32(x, n, height, product_.format == WeightFormat::bf16, reinterpret_cast<float*>(out) + row);
      }
    }
    const bool half_pair = product_.format == WeightFormat::bf16 && n % 2 != 0;
    if (half_pair && !pairs_) std::fill_n(reinterpret_cast<float*>(out) + n * height, height, 0.0f);
  }

  MatrixView<const float> x_;
  const PanelProduct& product_;
  const Tiles& tiles_;
  bool pairs_;
  PackedRows rows_;
  std::byte* out_;
};

constexpr int64_t kElementsPerThread = 16384;  // fewer are converted faster by one thread than by waking the team

PackedRows pack_rows(Context& ctx, MatrixView<const float> x, const PanelProduct& product, const Tiles& tiles,
                     bool bf16_pairs) {
  const bool bf16 = product.format == WeightFormat::bf16;
  const int64_t inputs = product.padded_offsets.back();
  if (x.rows == 1 && !bf16) return {reinterpret_cast<const std::byte*>(x.data), 4, inputs};
  const bool pairs = bf16 && bf16_pairs;
  auto* out = static_cast<std::byte*>(ctx.scratch(Context::op_slot, size_t(x.rows * inputs * (pairs ? 2 : 4))));
  const RowPacker packer(x, product, tiles, pairs, out);
  if (x.rows * inputs < 2 * kElementsPerThread) {
    packer.pack(0, inputs);
  } else {
    ctx.team().split((inputs + 1) / 2,
                     [&](int, int64_t begin, int64_t end) { packer.pack(2 * begin, std::min(2 * end, inputs)); });
  }
  return packer.rows();
}

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
    job.x = x.at(first_row, height, at);
    job.weights = panel.weights + at * kColumnBlock * weight_bytes(product.format);
    const int64_t inputs = product.leaf_offsets[leaf + 1] - product.leaf_offsets[leaf];
    job.inputs = product.format == WeightFormat::bf16 ? (inputs + 1) / 2 * 2 : inputs;
    job.out = into;
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
  if (isa == Isa::avx512) return __builtin_cpu_is("intel") ? tile_kernels_avx512() : tile_kernels_avx512_dot();
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
  const Tiles tiles(x.rows, kernels.max_rows);
  const PackedRows packed = pack_rows(ctx, x, product, tiles, kernels.bf16_pairs);
  const int64_t panels = (product.outputs + kColumnBlock - 1) / kColumnBlock;
  if (x.rows >= kManyRows && kernels.expand != nullptr && panels >= 2 * ctx.team().threads())
    return multiply_many_rows(ctx, kernels, product, packed, tiles, source, out);
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
