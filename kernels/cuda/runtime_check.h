#pragma once
#include <cuda_runtime_api.h>

#include "kernels/check.h"

namespace pleat::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw Error(ErrorKind::failed, concat(what, ": ", cudaGetErrorString(error)));
}

}  // namespace pleat::cuda
