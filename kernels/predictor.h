#pragma once
// Which neurons leave their range: z~ = x . P[n] + b1[n] with P a 1, 2 or 3-bit copy of W1 (method.md section 2), in
// the arithmetic of low_bit.h.
#include "kernels/low_bit.h"
#include "kernels/neuron_rows.h"

namespace pleat {

// z [m, neurons] = z~ (calibration, reports, tests).
void predict(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias, MatrixView<float> z);

// The neurons whose z~ is outside [low, high], for up to kMaxSharedRows rows; replaces the selection's content. Same z~
// bits.
void predict_selection(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias,
                       const float* low, const float* high, Selection& selection);

}  // namespace pleat
