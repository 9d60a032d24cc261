#pragma once
// Flags of the commands that make requests, and of those that run them.
#include "core/engine/request.h"
#include "core/engine/scheduler.h"
#include "launcher/command.h"

namespace pleat {

// --max-tokens, --temperature ...
void add_sampling_flags(CLI::App& app, SamplingOptions& sampling);
// --batch, --prefill-chunk and --fold-prompt.
void add_scheduler_flags(CLI::App& app, SchedulerOptions& options);

// The engine's options for what a scheduler with these asks of it.
EngineOptions engine_options(const CommonOptions& common, const SchedulerOptions& scheduler);

}  // namespace pleat
