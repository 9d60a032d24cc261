#pragma once
#include "kernels/cuda/multiply_rows.h"

namespace pleat::cuda {

// multiply_rows() with one matrix in planes (kernels/planes.h), through look-up tables in shared memory.
void multiply_planes(StreamHandle stream, const RowInput& x, const RowProduct& product);

}  // namespace pleat::cuda
