#pragma once
#include "kernels/tensor.h"

namespace pleat {

class Context;

// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, row by row, mean and variance accumulated in f32 in a fixed
// order.
//   x, y [tokens, d] f32, y may be x;  weight, bias [d] f32, bias may be nullptr
void layer_norm(Context& ctx, MatrixView<const float> x, const float* weight, const float* bias, float eps,
                MatrixView<float> y);

// y = x / sqrt(mean(x^2) + eps) * weight (RMSNorm, arXiv 1910.07467), otherwise as above.
void rms_norm(Context& ctx, MatrixView<const float> x, const float* weight, float eps, MatrixView<float> y);

// y += x, element by element; [rows, cols]. With bias: y += x + bias.
void add(Context& ctx, MatrixView<const float> x, const float* bias, MatrixView<float> y);

}  // namespace pleat
