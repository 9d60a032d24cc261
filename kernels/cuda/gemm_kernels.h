#pragma once
// gemm() by format of w. Included by .cu files only.
#include "kernels/cuda/gemm.h"

namespace pleat::cuda {

void gemm_f32(StreamHandle stream, const GemmInput& x, const GemmProduct& product);
void gemm_bf16(StreamHandle stream, const GemmInput& x, const GemmProduct& product);
void gemm_low_bit(StreamHandle stream, const GemmInput& x, const GemmProduct& product);

}  // namespace pleat::cuda
