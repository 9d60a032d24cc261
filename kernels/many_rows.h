#pragma once
// Panels times so many rows that the arithmetic bounds, not the weights: inputs go in blocks that stay in the
// first-level cache, their weights as f32, and each tile of rows goes on from its sums. The same additions in the same
// order as tile by tile, so the same bits.
#include "kernels/matmul_tile.h"
#include "kernels/packed_rows.h"
#include "kernels/panel_product.h"

namespace pleat {

constexpr int64_t kManyRows = 24;  // from here on it pays

// multiply_panels() for them; rows: x packed. kernels.expand is there. Uses ctx.scratch(sums_slot).
void multiply_many_rows(Context& ctx, const TileKernels& kernels, const PanelProduct& product, const PackedRows& rows,
                        const Tiles& tiles, const PanelSource& source, const PanelOutput& out);

}  // namespace pleat
