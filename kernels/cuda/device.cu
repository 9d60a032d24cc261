#include "kernels/cuda/device.h"

namespace pleat::cuda {

std::string why_no_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? "" : "no device is visible";
}

}  // namespace pleat::cuda
