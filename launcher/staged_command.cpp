#include "launcher/staged_command.h"

#include <iostream>

#include "kernels/check.h"
#include "launcher/interrupt.h"
#include "launcher/progress.h"
#include "launcher/together.h"

namespace pleat {
namespace {

struct Interrupted {
  int signal;
};

}  // namespace

int run_in_stages(const std::string& name, const CommonOptions& options, Communicator& communicator,
                  const std::function<std::string(const StageProgress& tell)>& work) {
  int signal = 0;
  agree(communicator, [&] {
    PLEAT_REQUIRE(communicator.ranks() == 1, "'", name, "' runs as one process; start it without mpirun");
    const InterruptGuard interrupt;
    StagedProgress progress(name + ": ", options.quiet);
    try {
      const std::string said = work([&](const std::string& stage, double fraction) {
        if (interrupt.signal()) throw Interrupted{interrupt.signal()};
        progress.update(stage, fraction);
      });
      progress.finish();
      std::cout << said << std::flush;
    } catch (const Interrupted& by) {
      signal = by.signal;
    }
  });
  return signal ? 128 + signal : 0;
}

}  // namespace pleat
