// Dense products with neuron rows: panels are made on the fly.
#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/matmul_tile.h"
#include "kernels/neuron_rows.h"
#include "kernels/panel_product.h"

namespace pleat {
namespace {

constexpr int64_t kAlignment = 64;

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Low-bit weights become f32.
WeightFormat panel_format(const NeuronRows& rows) {
  return is_low_bit(rows.format()) ? WeightFormat::f32 : rows.format();
}

// Panels packed on the fly, into one piece of scratch a thread.
class ScratchPanels : public PanelSource {
 public:
  // leaf_offsets: in inputs of the product.
  ScratchPanels(Context& ctx, const NeuronRows& rows, std::span<const int64_t> leaf_offsets)
      : rows_(rows), format_(panel_format(rows)), isa_(ctx.isa()), kernels_(tile_kernels(ctx.isa())) {
    // Every leaf is padded by one input at most.
    const int64_t inputs = leaf_offsets.back() + int64_t(leaf_offsets.size());
    const int64_t offset_bytes = round_up(int64_t(leaf_offsets.size_bytes()), kAlignment);
    bytes_ = round_up(inputs * kColumnBlock * weight_bytes(format_), kAlignment);
    auto* scratch =
        static_cast<std::byte*>(ctx.scratch(Context::panel_slot, size_t(offset_bytes + bytes_ * ctx.team().threads())));
    auto* padded = reinterpret_cast<int64_t*>(scratch);
    pad_leaves(format_, leaf_offsets, padded);
    leaf_offsets_ = leaf_offsets;
    padded_offsets_ = {padded, leaf_offsets.size()};
    panels_ = scratch + offset_bytes;
  }

  PanelProduct product(int64_t outputs, int first_leaf, std::span<const TreeNode> nodes) const {
    return {format_, outputs, leaf_offsets_, padded_offsets_, first_leaf, nodes};
  }

 protected:
  std::byte* piece(int member) const { return panels_ + member * bytes_; }

  const NeuronRows& rows_;
  const WeightFormat format_;  // of a panel
  const Isa isa_;
  const TileKernels& kernels_;
  std::span<const int64_t> leaf_offsets_, padded_offsets_;

 private:
  std::byte* panels_ = nullptr;
  int64_t bytes_ = 0;
};

// Outputs are neurons: a panel is the transpose of 32 rows, in words of one f32 or two bf16.
class UpPanels : public ScratchPanels {
 public:
  using ScratchPanels::ScratchPanels;
  Panel panel(int member, int64_t index) const override {
    const int64_t first = index * kColumnBlock;
    const int64_t words = padded_offsets_.back() * weight_bytes(format_) / 4;
    const int rows = int(std::min(kColumnBlock, rows_.neurons() - first));
    if (is_low_bit(rows_.format())) {
      unpack(first, rows, reinterpret_cast<uint32_t*>(piece(member)));
      return {piece(member)};
    }
    kernels_.transpose(rows_.row(first), rows_.stride_bytes(), rows, words, reinterpret_cast<uint32_t*>(piece(member)));
    return {piece(member)};
  }

 private:
  void unpack(int64_t first, int rows, uint32_t* out) const {
    constexpr int64_t kColumns = 2 * kGroup;  // so that they stay in the first-level cache
    alignas(64) float values[kColumnBlock * kColumns];
    for (int64_t column = 0; column < rows_.width(); column += kColumns) {
      const int64_t columns = std::min(kColumns, rows_.groups() * kGroup - column);
      rows_.unpack_block(isa_, first, rows, column, columns, values, kColumns);
      kernels_.transpose(reinterpret_cast<const std::byte*>(values), kColumns * sizeof(float), rows,
                         std::min(kColumns, rows_.width() - column), out + column * kColumnBlock);
    }
  }
};

// Inputs are neurons: a panel is a strip of 32 columns, for bf16 with the neurons of a pair interleaved.
class DownPanels : public ScratchPanels {
 public:
  using ScratchPanels::ScratchPanels;
  Panel panel(int member, int64_t index) const override {
    const int64_t at = index * kColumnBlock * weight_bytes(format_);
    for (size_t leaf = 0; leaf + 1 < leaf_offsets_.size(); ++leaf) {
      std::byte* out = piece(member) + padded_offsets_[leaf] * kColumnBlock * weight_bytes(format_);
      const int64_t begin = leaf_offsets_[leaf], end = leaf_offsets_[leaf + 1];
      if (is_low_bit(rows_.format())) {
        if (begin < end)
          rows_.unpack_block(isa_, begin, end - begin, index * kColumnBlock, kColumnBlock,
                             reinterpret_cast<float*>(out), kColumnBlock);
      } else if (rows_.format() == WeightFormat::f32) {
        copy_strip(at, begin, end, out);
      } else {
        interleave_strip(at, begin, end, out);
      }
    }
    return {piece(member)};
  }

 private:
  static constexpr int64_t kAhead =
      16;  // rows: a strip is one or two cache lines of each, too far apart for the processor

  void fetch_ahead(int64_t neuron, int64_t at) const {
    if (neuron + kAhead < rows_.neurons()) __builtin_prefetch(rows_.row(neuron + kAhead) + at);
  }

  void copy_strip(int64_t at, int64_t begin, int64_t end, std::byte* out) const {
    constexpr int64_t kBytes = kColumnBlock * sizeof(float);
    const int64_t valid = std::min(kBytes, rows_.place_bytes() - at);
    for (int64_t neuron = begin; neuron < end; ++neuron, out += kBytes) {
      fetch_ahead(neuron, at);
      std::memcpy(out, rows_.row(neuron) + at, size_t(valid));
      std::memset(out + valid, 0, size_t(kBytes - valid));
    }
  }

  void interleave_strip(int64_t at, int64_t begin, int64_t end, std::byte* out) const {
    static constexpr uint16_t kZeros[kColumnBlock] = {};
    auto* pairs = reinterpret_cast<uint16_t*>(out);
    for (int64_t neuron = begin; neuron < end; neuron += 2, pairs += 2 * kColumnBlock) {
      fetch_ahead(neuron, at);
      fetch_ahead(neuron + 1, at);
      const auto* even = reinterpret_cast<const uint16_t*>(rows_.row(neuron) + at);
      const auto* odd = neuron + 1 < end ? reinterpret_cast<const uint16_t*>(rows_.row(neuron + 1) + at) : kZeros;
      for (int i = 0; i < kColumnBlock; ++i) {
        pairs[2 * i] = even[i];
        pairs[2 * i + 1] = odd[i];
      }
    }
  }
};

}  // namespace

void matmul_up(Context& ctx, MatrixView<const float> x, const NeuronRows& up, const float* bias, MatrixView<float> y) {
  PLEAT_ASSERT(x.cols == up.width() && y.cols == up.neurons() && x.rows == y.rows, "x [", x.rows, ", ", x.cols,
               "], up [", up.neurons(), ", ", up.width(), "], y [", y.rows, ", ", y.cols, "]");
  const int64_t leaf_offsets[] = {0, up.width()};
  const TreeNode whole{0, 1};
  const UpPanels panels(ctx, up, leaf_offsets);
  multiply_panels(ctx, x, panels.product(up.neurons(), 0, {&whole, 1}), panels, {y.data, y.stride, 0, bias});
}

void matmul_by_input(Context& ctx, MatrixView<const float> x, const NeuronRows& by_input, const float* bias,
                     MatrixView<float> y) {
  PLEAT_ASSERT(x.cols == by_input.neurons() && y.cols == by_input.width() && x.rows == y.rows, "x [", x.rows, ", ",
               x.cols, "], by input [", by_input.neurons(), ", ", by_input.width(), "], y [", y.rows, ", ", y.cols,
               "]");
  const int64_t leaf_offsets[] = {0, by_input.neurons()};
  const TreeNode whole{0, 1};
  const DownPanels panels(ctx, by_input, leaf_offsets);
  multiply_panels(ctx, x, panels.product(by_input.width(), 0, {&whole, 1}), panels, {y.data, y.stride, 0, bias});
}

void matmul_down(Context& ctx, MatrixView<const float> a, const NeuronRows& down,
                 const std::vector<int64_t>& leaf_offsets, int first_leaf, const std::vector<TreeNode>& nodes,
                 float* out) {
  PLEAT_ASSERT(a.cols == down.neurons() && !leaf_offsets.empty() && leaf_offsets.back() == down.neurons(), "a [",
               a.rows, ", ", a.cols, "], down [", down.neurons(), ", ", down.width(), "], ", leaf_offsets.size(),
               " leaf offsets");
  const DownPanels panels(ctx, down, leaf_offsets);
  multiply_panels(ctx, a, panels.product(down.width(), first_leaf, nodes), panels,
                  {out, down.width(), a.rows * down.width(), nullptr});
}

}  // namespace pleat
