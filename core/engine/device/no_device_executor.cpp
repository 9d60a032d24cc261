#include "core/engine/device/device_executor.h"
#include "kernels/check.h"

namespace pleat {

MakeExecutor device_executor() {
  throw Error(ErrorKind::unimplemented,
              "this build has no CUDA backend: install the CUDA toolkit, so that nvcc is found, and build again");
}

}  // namespace pleat
