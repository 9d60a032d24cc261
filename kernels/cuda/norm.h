#pragma once
// The end of a block and the beginning of the next one, in one pass: residual addition and normalisation.

#include "kernels/cuda/device.h"

namespace pleat::cuda {

struct Norm {
  const float* weight = nullptr;  // [d]
  const float* bias = nullptr;    // [d] or nullptr
  float eps = 1e-5f;
  bool centred = true;  // LayerNorm; false: RMSNorm (arXiv 1910.07467), without bias
};

// residual += x; y = norm(residual), row by row in f32.
//   residual, y [rows, d] f32; x [rows, d] f32 or nullptr: nothing is added. y may be x.
void add_norm(StreamHandle stream, int rows, int d, const float* x, const Norm& norm, float* residual, float* y);

}  // namespace pleat::cuda
