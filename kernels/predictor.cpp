#include "kernels/predictor.h"

#include "kernels/low_bit_blocks.h"

namespace pleat {

void predict(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias, MatrixView<float> z) {
  PLEAT_ASSERT(z.rows == x.rows && z.cols == p.outputs(), z.rows, " x ", z.cols, " for ", p.outputs(), " neurons");
  for_low_bit_blocks(ctx, x, p, bias, [&](int64_t neuron, int neurons, int64_t row, int rows, const float* block) {
    for (int r = 0; r < rows; ++r) std::copy_n(block + r * 16, neurons, z[row + r] + neuron);
  });
}

void predict_selection(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias,
                       const float* low, const float* high, Selection& selection) {
  PLEAT_ASSERT(x.rows <= kMaxSharedRows, x.rows, " rows share a selection");
  PLEAT_ASSERT(selection.leaf_offsets.back() == p.outputs(), selection.leaf_offsets.back(), " and ", p.outputs(),
               " neurons");
  uint32_t* const mask = selection.rows.data();
  for_low_bit_blocks(ctx, x, p, bias, [&](int64_t neuron, int neurons, int64_t, int rows, const float* z) {
    for (int n = 0; n < neurons; ++n) mask[neuron + n] = 0;
    for (int r = 0; r < rows; ++r)
      for (int n = 0; n < neurons; ++n) {
        const bool inside = z[r * 16 + n] >= low[neuron + n] && z[r * 16 + n] <= high[neuron + n];
        mask[neuron + n] |= uint32_t(!inside) << r;  // NaN is outside
      }
  });
  selection.gather(ctx);
}

}  // namespace pleat
