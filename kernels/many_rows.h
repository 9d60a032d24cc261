#pragma once
// Panels times so many rows that the arithmetic bounds, not the weights: inputs are taken in blocks whose weights stay
// in the first-level cache, widened once for all rows, and each tile of rows goes on from its sums. The same additions
// in the same order as tile by tile, so the same bits.
#include "kernels/matmul_tile.h"
#include "kernels/panel_product.h"

namespace pleat {
#ifdef LAB
extern int64_t g_many_rows;
#define kManyRows g_many_rows
#else
constexpr int64_t kManyRows = 24;  // from here on it pays
#endif

// multiply_panels() for them. Uses ctx.scratch(op_slot and sums_slot).
void multiply_many_rows(Context& ctx, const TileKernels& kernels, MatrixView<const float> x,
                        const PanelProduct& product, const PanelSource& source, const PanelOutput& out);

}  // namespace pleat
