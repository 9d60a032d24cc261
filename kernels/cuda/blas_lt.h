#pragma once
// Products of many rows of x with a matrix in bf16 by cuBLASLt (https://docs.nvidia.com/cuda/cublas/#cublaslt), for
// where bits need not stay the same (--reduction fast): the library chooses an algorithm, and with it the order of
// sums, by the number of rows. gemm() otherwise, and for f32 and low bits.
#include <cstddef>
#include <memory>

#include "kernels/cuda/gemm.h"

namespace pleat::cuda {

class BlasLt {
 public:
  // Of the current device. workspace_bytes of it are what an algorithm may use. Error(unimplemented) in a build that
  // found no cuBLASLt.
  explicit BlasLt(size_t workspace_bytes = size_t(32) << 20);
  ~BlasLt();
  BlasLt(const BlasLt&) = delete;

  // Enqueues what gemm() does where w is in bf16, to within the order of sums. The library's own epilogue adds the bias
  // and applies relu or gelu_new; other activations follow it. The first product of a shape asks the library for an
  // algorithm, which is kept. Products share the workspace: one stream at a time.
  // Error(failed) with the library's words where it has no algorithm.
  void gemm(StreamHandle stream, const GemmInput& x, const GemmProduct& product);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat::cuda
