#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>

#include "launcher/command.h"
#include "launcher/device_preflight.h"
#include "launcher/preflight.h"
#include "launcher/together.h"

namespace pleat {

void add_check(CLI::App& app, Command& command) {
  auto options = std::make_shared<CommonOptions>();
  CLI::App& sub =
      *app.add_subcommand("check", "Who is where, how fast the ranks talk, and whether they agree bit by bit");
  sub.footer("Takes a few seconds; run it as the job will run:\n  mpirun -np 4 pleat check [--device cuda]");
  add_common_flags(sub, *options);
  add_rank_flags(sub, *options);
  sub.callback([options, &command] {
    command.run = [options] {
      return with_ranks(*options, RunsOn::any_device, [&](Communicator& communicator) {
        const int code = run_check(communicator, options->json);
        return options->device == "cuda" ? std::max(code, run_device_check(communicator, *options)) : code;
      });
    };
  });
}

}  // namespace pleat
