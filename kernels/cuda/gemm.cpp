#include "kernels/cuda/gemm.h"

#include "kernels/cuda/gemm_kernels.h"

namespace pleat::cuda {

void gemm(StreamHandle stream, const GemmInput& x, const GemmProduct& product) {
  const Rows& w = product.w;
  PLEAT_ASSERT(x.x.cols == w.width && product.y.rows == x.x.rows && product.y.cols == w.rows, x.x.rows, " x ", x.x.cols,
               " by [", w.rows, ", ", w.width, "] to ", product.y.rows, " x ", product.y.cols);
  PLEAT_ASSERT(x.bits == (w.bits > 8 ? w.bits : 8), "x is prepared for ", x.bits, " bits, not ", w.bits);
  const Leaves& leaves = product.leaves;
  PLEAT_ASSERT(leaves.count == 0 || (product.bias == nullptr && !product.activation),
               "a bias is added once, after the sum");
  PLEAT_ASSERT(leaves.pending == 0 || product.work != nullptr, "sums that wait need work space");
  if (w.rows == 0) return;
  if (w.bits == 32) return gemm_f32(stream, x, product);
  if (w.bits == 16) return gemm_bf16(stream, x, product);
  gemm_low_bit(stream, x, product);
}

}  // namespace pleat::cuda
