// In place of blas_lt.cpp where the toolkit has no cuBLASLt.
#include "kernels/cuda/blas_lt.h"

namespace pleat::cuda {

struct BlasLt::State {};

bool has_blas_lt() { return false; }

BlasLt::BlasLt(size_t) {
  throw Error(ErrorKind::unimplemented,
              "built without cuBLASLt: install the CUDA toolkit's libcublas-dev, build again");
}
BlasLt::~BlasLt() = default;
void BlasLt::gemm(StreamHandle, const GemmInput&, const GemmProduct&) {}
void BlasLt::gemm_by_one_algorithm(StreamHandle, const GemmInput&, const GemmProduct&, int) {}

}  // namespace pleat::cuda
