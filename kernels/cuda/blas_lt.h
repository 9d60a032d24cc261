#pragma once
// Products of many rows of x with a matrix in bf16 by cuBLASLt (https://docs.nvidia.com/cuda/cublas/#cublaslt). The
// library chooses an algorithm, and with it the order of sums, by the number of rows, unless it is told not to.
#include <cstddef>
#include <memory>

#include "kernels/cuda/gemm.h"

namespace pleat::cuda {

// Whether the build knew it and it is on this machine.
bool has_blas_lt();

class BlasLt {
 public:
  // Of the current device. workspace_bytes of it are what an algorithm may use. Error where there is no cuBLASLt.
  explicit BlasLt(size_t workspace_bytes = size_t(32) << 20);
  ~BlasLt();
  BlasLt(const BlasLt&) = delete;

  // Enqueues what gemm() does where w is in bf16, to within the order of sums. The library's own epilogue adds the bias
  // and applies relu or gelu_new; other activations follow it. The first product of a shape asks the library for an
  // algorithm, which is kept. Products share the workspace: one stream at a time.
  // Error(failed) with the library's words where it has no algorithm.
  void gemm(StreamHandle stream, const GemmInput& x, const GemmProduct& product);

  // The same by the algorithm that the library chooses for many rows and `all_outputs` outputs, of which w has some: no
  // sum is split, and an element's bits depend on its rows of x and w alone (measured, perf/gpu). y's rows begin at
  // multiples of 16 bytes.
  void gemm_by_one_algorithm(StreamHandle stream, const GemmInput& x, const GemmProduct& product, int all_outputs);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat::cuda
