#pragma once
// The end of a block and the beginning of the next one, in one pass: residual addition and normalisation.

#include "kernels/cuda/device.h"

namespace pleat::cuda {

struct Norm {
  const float* weight = nullptr;  // [d]; nullptr: x itself, where the model has no such norm
  const float* bias = nullptr;    // [d] or nullptr
  float eps = 1e-5f;
  bool centred = true;  // LayerNorm; false: RMSNorm (arXiv 1910.07467), without bias
};

// What is added to the residual stream: (x[0] + x[1] + ...) + bias.
struct Addend {
  const float* x = nullptr;  // [terms][rows, d] f32; nullptr: nothing is added
  int terms = 1;
  const float* bias = nullptr;  // [d] or nullptr
};

// Where d is a multiple of 4, all addresses are of 16 bytes.

// residual += added; y = norm(residual), row by row in f32.
//   residual, y [rows, d] f32; y may be added.x.
void add_norm(StreamHandle stream, int rows, int d, const Addend& added, const Norm& norm, float* residual, float* y);

// residual += norm_of_x(x + bias), y = norm(residual): where a sub-layer's output is normalised before it is added.
//   x, residual, y [rows, d] f32; y may be x; bias [d] or nullptr
void add_normed(StreamHandle stream, int rows, int d, const float* x, const float* bias, const Norm& norm_of_x,
                const Norm& norm, float* residual, float* y);

// Every head of x in place.   x [rows, heads * head_size], x_stride from row to row; norm: of [head_size]
// Where head_size and x_stride are multiples of 4, x is at a multiple of 16 bytes.
void norm_heads(StreamHandle stream, int rows, int heads, int head_size, const Norm& norm, float* x, int x_stride);

}  // namespace pleat::cuda
