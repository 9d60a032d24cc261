#pragma once
#include "core/engine/engine.h"

namespace pleat {

// What runs an engine's steps on the GPU. Error(unimplemented) in one sentence where there is none to run on.
MakeExecutor device_executor();

}  // namespace pleat
