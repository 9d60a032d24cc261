#pragma once
#include "launcher/command.h"
#include "parallel/communicator.h"

namespace pleat {

// What preflight.h says of ranks, of their devices: who has which, which way their sums go, how long these take by size
// and whether they have the CPU's bits; as a table (or one JSON object) on rank 0's stdout. Exit code: 0, or 1 when
// bits differ. Collective.
int run_device_check(Communicator& communicator, const CommonOptions& options);

}  // namespace pleat
