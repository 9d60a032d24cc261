#pragma once
// Rank 0's computing thread while it serves: orders in, steps, reports out.
#include <chrono>

#include "cluster/exchange.h"
#include "core/engine/scheduler.h"

namespace pleat {

// Runs until the order to leave; what is unfinished then is dropped. With nothing to compute it sleeps, and lets the
// other ranks know every `beat` that it lives. Cancelled requests are gone before the next step.
void work_for(Orders& orders, Reports& reports, Scheduler& scheduler, std::chrono::milliseconds beat);

}  // namespace pleat
