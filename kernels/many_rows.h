#pragma once
// Panels times so many rows that they come from memory again and again, if a panel at a time is multiplied with all of
// them: some panels are taken together, and inputs in blocks, after which each tile of rows goes on from its sums
// (Goto and van de Geijn's order, doi 10.1145/1356052.1356053, with the weights in the place of A). The same additions
// in the same order as tile by tile, so the same bits.
#include "kernels/matmul_tile.h"
#include "kernels/panel_product.h"

namespace pleat {

constexpr int64_t kManyRows = 64;  // from here on it pays

// multiply_panels() for them. Uses ctx.scratch(op_slot and sums_slot).
void multiply_many_rows(Context& ctx, const TileKernels& kernels, MatrixView<const float> x,
                        const PanelProduct& product, const PanelSource& source, const PanelOutput& out);

}  // namespace pleat
