#include "kernels/packed_rows.h"

#include <array>
#include <cstring>
#include <utility>

#include "kernels/context.h"
#include "kernels/matmul_tile.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

constexpr int64_t kChunkWords = 128;           // turned at a time: f32, or pairs of bf16
constexpr int64_t kElementsPerThread = 16384;  // fewer are converted faster by one thread than by waking the team

using CopyColumns = void (*)(const uint32_t* from, int64_t words, uint32_t* to);

// kColumns columns of [words][32].
template <int kColumns>
void copy_columns(const uint32_t* from, int64_t words, uint32_t* to) {
  for (int64_t word = 0; word < words; ++word, from += kPanelOutputs, to += kColumns)
    std::memcpy(to, from, kColumns * sizeof(uint32_t));
}

template <int... kColumns>
constexpr std::array<CopyColumns, sizeof...(kColumns)> copies(std::integer_sequence<int, kColumns...>) {
  return {copy_columns<kColumns>...};
}
constexpr auto kCopies = copies(std::make_integer_sequence<int, kMaxTileRows + 1>());  // by columns

class RowPacker {
 public:
  RowPacker(Isa isa, MatrixView<const float> x, const PanelProduct& product, const Tiles& tiles, int64_t most,
            std::byte* out)
      : x_(x),
        product_(product),
        tiles_(tiles),
        most_(most),
        kernels_(tile_kernels(isa)),
        ops_(vector_ops(isa)),
        pairs_(product.format == WeightFormat::bf16 && kernels_.bf16_pairs),
        rows_{out, pairs_ ? 2 : 4, x.rows},
        out_(out) {}

  const PackedRows& rows() const { return rows_; }

  // The padded inputs [begin, end) of all rows; begin is even. Tiles that are turned together first, so that their rows
  // are read on and on.
  void pack(int64_t begin, int64_t end) const {
    for (int64_t tile = 0, next; tile < tiles_.count; tile = next) {
      next = tile + 1;
      while (next < tiles_.count && tiles_.begin(next + 1) - tiles_.begin(tile) <= kPanelOutputs) ++next;
      for (size_t leaf = 0; leaf + 1 < product_.leaf_offsets.size(); ++leaf) pack_leaf(tile, next, leaf, begin, end);
    }
  }

 private:
  int64_t chunk() const { return pairs_ ? 2 * kChunkWords : kChunkWords; }

  void pack_leaf(int64_t tile, int64_t next, size_t leaf, int64_t begin, int64_t end) const {
    const int64_t at = product_.padded_offsets[leaf], leaf_end = product_.padded_offsets[leaf + 1];
    const int64_t input = product_.leaf_offsets[leaf], inputs = product_.leaf_offsets[leaf + 1] - input;
    for (int64_t piece = at; piece < leaf_end; piece += most_) {
      const int64_t n = std::min(most_, leaf_end - piece), last = std::min(end, piece + n);
      for (int64_t k = std::max(begin, piece); k < last; k += chunk()) {
        const int64_t count = std::min(chunk(), last - k);
        pack_chunk(tile, next, {piece, n}, k - piece, input + k - at, std::min(count, inputs - (k - at)), count);
      }
    }
  }

  struct Piece {
    int64_t begin, inputs;
  };

  // `count` inputs of a piece from its input `place` on: `valid` of x from `input` on, and padding.
  void pack_chunk(int64_t tile, int64_t next, Piece piece, int64_t place, int64_t input, int64_t valid,
                  int64_t count) const {
    const auto out = [&](int64_t t) {
      const int64_t at = x_.rows * piece.begin + tiles_.begin(t) * piece.inputs + place * tiles_.height(t);
      return reinterpret_cast<uint32_t*>(out_ + at * rows_.element_bytes);
    };
    if (x_.rows == 1) return convert(x_[0] + input, valid, count, out(0));
    alignas(64) uint32_t converted[kPanelOutputs * kChunkWords], turned[kChunkWords * kPanelOutputs];
    const int64_t first = tiles_.begin(tile), rows = tiles_.begin(next) - first;
    for (int64_t row = 0; row < rows; ++row)
      convert(x_[first + row] + input, valid, count, converted + row * kChunkWords);
    const int64_t words = pairs_ ? count / 2 : count;
    kernels_.transpose(reinterpret_cast<const std::byte*>(converted), kChunkWords * sizeof(uint32_t), int(rows), words,
                       turned);
    for (; tile < next; ++tile)
      kCopies[size_t(tiles_.height(tile))](turned + tiles_.begin(tile) - first, words, out(tile));
  }

  void convert(const float* x, int64_t valid, int64_t count, uint32_t* words) const {
    if (pairs_) {
      auto* const to = reinterpret_cast<bf16*>(words);
      ops_.to_bf16(x, to, valid);
      std::fill(to + valid, to + count, bf16{});
      return;
    }
    auto* const to = reinterpret_cast<float*>(words);
    if (product_.format == WeightFormat::bf16) {
      ops_.round_to_bf16(x, to, valid);
    } else {
      std::copy_n(x, valid, to);
    }
    std::fill(to + valid, to + count, 0.0f);
  }

  MatrixView<const float> x_;
  const PanelProduct& product_;
  const Tiles& tiles_;
  int64_t most_;
  const TileKernels& kernels_;
  const VectorOps& ops_;
  bool pairs_;
  PackedRows rows_;
  std::byte* out_;
};

}  // namespace

PackedRows pack_rows(Context& ctx, MatrixView<const float> x, const PanelProduct& product, const Tiles& tiles,
                     int64_t most) {
  const int64_t inputs = product.padded_offsets.back();
  if (x.rows == 1 && product.format != WeightFormat::bf16) return {reinterpret_cast<const std::byte*>(x.data), 4, 1};
  auto* out = static_cast<std::byte*>(ctx.scratch(Context::op_slot, size_t(x.rows * inputs) * sizeof(float)));
  const RowPacker packer(ctx.isa(), x, product, tiles, most, out);
  if (x.rows * inputs < 2 * kElementsPerThread) {
    packer.pack(0, inputs);
  } else {
    ctx.team().split((inputs + 1) / 2,
                     [&](int, int64_t begin, int64_t end) { packer.pack(2 * begin, std::min(2 * end, inputs)); });
  }
  return packer.rows();
}

}  // namespace pleat
