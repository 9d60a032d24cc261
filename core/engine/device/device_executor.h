#pragma once
#include "core/engine/engine.h"

namespace pleat {

// Bytes a second that this rank's device reads and writes in a copy far larger than its caches, the best of a few.
double device_copy_bandwidth();

// Steps on the GPU. Error(unimplemented) in one sentence where there is none to run on.
Backend device_backend();

}  // namespace pleat
