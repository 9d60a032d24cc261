#pragma once
// A command of one process that works for long, in stages, and then says what came of it.
#include <functional>
#include <string>

#include "launcher/command.h"
#include "parallel/communicator.h"

namespace pleat {

// A stage's name and how much of it is done, 0 to 1.
using StageProgress = std::function<void(const std::string& stage, double fraction)>;

// Writes what `work` returns to stdout. Where Ctrl-C or SIGTERM comes, the work is unwound when it next tells how far
// it is, so that it can take away what is unfinished, and the exit code is 128 + the signal's.
int run_in_stages(const std::string& name, const CommonOptions& options, Communicator& communicator,
                  const std::function<std::string(const StageProgress& tell)>& work);

}  // namespace pleat
