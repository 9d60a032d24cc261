#pragma once
// Rows of activations as the tile kernels read them.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/panel_product.h"

namespace pleat {

// Rows are cut into tiles of nearly equal height.
struct Tiles {
  int64_t rows;
  int64_t count;
  Tiles(int64_t rows_, int max_rows) : rows(rows_), count((rows_ + max_rows - 1) / max_rows) {}
  int64_t begin(int64_t tile) const { return rows * tile / count; }
  int64_t height(int64_t tile) const { return begin(tile + 1) - begin(tile); }
};

// x as the kernels read it, piece after piece of its inputs (leaves, or blocks of them): a piece of n inputs is
// [tiles][n][rows of the tile], in f32 or as pairs of bf16.
struct PackedRows {
  const std::byte* data;
  int64_t element_bytes;
  int64_t rows;

  // A tile's piece [begin, begin + n) of the padded inputs.
  const std::byte* at(int64_t first_row, int64_t begin, int64_t n) const {
    return data + (rows * begin + first_row * n) * element_bytes;
  }
};

// Pieces are leaves, those longer than `most` inputs (even) cut into blocks of so many. Uses ctx.scratch(op_slot).
PackedRows pack_rows(Context& ctx, MatrixView<const float> x, const PanelProduct& product, const Tiles& tiles,
                     int64_t most);

// n columns of a tile's rows, with their bias, to rows of `out`.
inline void store_tile(const float* tile, int64_t tile_stride, int64_t rows, int64_t n, const float* bias, float* out,
                       int64_t row_stride) {
  for (int64_t row = 0; row < rows; ++row, tile += tile_stride, out += row_stride) {
    if (bias == nullptr) {
      std::copy_n(tile, n, out);
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = tile[i] + bias[i];
    }
  }
}

}  // namespace pleat
