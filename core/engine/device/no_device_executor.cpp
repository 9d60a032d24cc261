#include "core/engine/device/device_executor.h"
#include "kernels/check.h"

namespace pleat {

namespace {

[[noreturn]] void refuse() {
  throw Error(ErrorKind::unimplemented,
              "this build has no CUDA backend: install the CUDA toolkit, so that nvcc is found, and build again");
}

}  // namespace

Backend device_backend() { refuse(); }
double device_copy_bandwidth() { refuse(); }

}  // namespace pleat
