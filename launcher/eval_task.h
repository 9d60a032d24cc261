#pragma once
#include <cstdint>
#include <string>

#include "launcher/command.h"
#include "parallel/communicator.h"

namespace pleat {

struct TaskOptions {
  std::string model, task, data, output;
  int64_t limit = 0;  // questions; 0: all
  bool dense = false;
};

// All ranks; rank 0 reports. Returns the exit code.
int eval_task(const TaskOptions& options, const CommonOptions& common, Communicator& communicator);

}  // namespace pleat
