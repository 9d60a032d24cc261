#pragma once
// Flags of the commands that make requests, and of those that run them.
#include "core/engine/request.h"
#include "core/engine/scheduler.h"

namespace CLI {
class App;
}

namespace pleat {

// --max-tokens, --temperature ...
void add_sampling_flags(CLI::App& app, SamplingOptions& sampling);
// --batch, --prefill-chunk and --fold-prompt.
void add_scheduler_flags(CLI::App& app, SchedulerOptions& options);

}  // namespace pleat
