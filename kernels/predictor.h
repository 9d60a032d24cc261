#pragma once
// Which neurons leave their range: z~ = x . P[n] + b1[n] with P a 1, 2 or 3-bit copy of W1 (method.md section 2).
//
// Arithmetic: x is quantised to int8 per row, s = max|x| / 127 (0 for a zero row), q = round to nearest even(x / s).
// Over the groups g of 64 inputs, ascending: z~ += s * (scale[n,g] * (codes . q) + minimum[n,g] * sum(q)), codes . q
// and sum(q) exact in int32. All instruction sets give the same integers.
#include <cstdint>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/context.h"
#include "kernels/neuron_rows.h"
#include "kernels/tensor.h"

namespace pleat {

// [neurons, inputs]: weight = minimum + scale * code, a bf16 scale and minimum for each (neuron, group of 64 inputs).
class LowBitMatrix {
 public:
  LowBitMatrix() = default;
  LowBitMatrix(int bits, int64_t neurons, int64_t inputs);

  // Rows as the folded checkpoint stores them: codes [rows, ceil(inputs * bits / 8)], code k at bits [k * bits, (k + 1)
  // * bits) of the row, least significant first; scale and minimum [rows, ceil(inputs / 64)].
  void pack(int64_t neuron, int64_t rows, const uint8_t* codes, const bf16* scale, const bf16* minimum);

  int bits() const { return bits_; }
  int64_t neurons() const { return neurons_; }
  int64_t inputs() const { return inputs_; }
  size_t bytes() const { return codes_.bytes() + scales_.bytes(); }  // what one prediction streams

 private:
  friend struct LowBitAccess;
  int bits_ = 2;
  int64_t neurons_ = 0, inputs_ = 0;
  Buffer codes_, scales_;  // packed for the kernels: see predictor.cpp
};

// z [m, neurons] = z~ (calibration, reports, tests).
void predict(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias, MatrixView<float> z);

// The neurons whose z~ is outside [low, high], for up to kMaxSharedRows rows; replaces the selection's content. Same z~
// bits.
void predict_selection(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias,
                       const float* low, const float* high, Selection& selection);

}  // namespace pleat
