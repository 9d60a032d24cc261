#pragma once
// A router, its replicas, their clients and what befalls them, all of it decided by one number.
#include "tests/cluster/simulation/tally.h"

namespace pleat::test {

// The whole life of the world of this number; `prints`: with a line for each event.
Tally live_through(uint64_t seed, bool prints);

}  // namespace pleat::test
