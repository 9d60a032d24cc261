// Stands in for device_preflight.cpp in a build without CUDA, which require_device() has refused.
#include "launcher/device_preflight.h"

namespace pleat {

int run_device_check(Communicator&, const CommonOptions& options) {
  require_device(options, RunsOn::any_device);
  return 0;
}

}  // namespace pleat
