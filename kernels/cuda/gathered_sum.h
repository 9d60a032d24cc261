#pragma once
// The sum of ranks' nodes that have been gathered into one device's memory.
#include "kernels/cuda/device.h"
#include "kernels/cuda/sum_order.h"

namespace pleat::cuda {

// out = sum of all ranks' nodes in `order`.
//   gathered [order.ranks][order.most_nodes][rows, d]: a rank's first order.nodes[rank] nodes are read;
//   out [rows, d] f32, outside of it; both aligned to 16 bytes
void sum_gathered(StreamHandle stream, const SumOrder& order, int rows, int d, const float* gathered, float* out);

// residual += sum + bias.   bias [d] or nullptr; residual [rows, d] f32, aligned to 16 bytes
void add_gathered(StreamHandle stream, const SumOrder& order, int rows, int d, const float* gathered, const float* bias,
                  float* residual);

}  // namespace pleat::cuda
