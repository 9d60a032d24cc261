#include <memory>

#include <CLI/CLI.hpp>

#include "launcher/command.h"
#include "launcher/supervisor.h"

namespace pleat {

void add_launch(CLI::App& app, Command& command) {
  auto options = std::make_shared<LaunchOptions>();
  CLI::App& sub = *app.add_subcommand("launch", "Start ranks with mpirun, watch them, start them again when they fail");
  sub.footer(
      "A server of 4 ranks on this host, restarted if it fails; SIGTERM drains it:\n"
      "  pleat launch -n 4 -- serve --model DIR\n"
      "A batch job on the hosts of a file (lines like 'n1 slots=8'); a restart continues the output:\n"
      "  pleat launch -n 16 --hosts hosts.txt -- generate --model DIR --input in.jsonl --output out.jsonl\n"
      "Inside a Slurm allocation its tasks and hosts are taken:\n"
      "  pleat launch -- serve --model DIR\n"
      "Exit code: the job's. Ended with 0 or 2 it is not started again.");
  sub.add_option("-n,--ranks", options->ranks, "How many ranks; in a Slurm allocation without it: its tasks")
      ->check(CLI::Range(1, 65536));
  sub.add_option("--hosts", options->hosts, "Open MPI host file; without it Slurm's allocation, or this host");
  sub.add_option("--interface", options->interface, "Network of the ranks: an interface, or like 10.0.0.0/8");
  sub.add_option("--restarts", options->restarts, "Restarts after failures in a row, then it gives up; 0: none")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  sub.add_flag("--json", options->json, "Events as JSON, one object a line on stderr");
  sub.add_option("command", options->command, "After --: the subcommand and its flags")->required();
  sub.callback([options, &command] { command.run = [options] { return supervise(*options); }; });
}

}  // namespace pleat
