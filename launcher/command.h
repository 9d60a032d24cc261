#pragma once
// The subcommands and the flags they share. A new subcommand: one file with its add_...(), and one line in main.cpp.
#include <chrono>
#include <functional>
#include <string>

#include "core/engine/engine.h"

namespace CLI {
class App;
}

namespace pleat {

// What the chosen subcommand will do; returns the exit code.
struct Command {
  std::function<int()> run;
};

void add_fold(CLI::App& app, Command& command);
void add_quantize(CLI::App& app, Command& command);
void add_generate(CLI::App& app, Command& command);
void add_eval(CLI::App& app, Command& command);
void add_inspect(CLI::App& app, Command& command);
void add_check(CLI::App& app, Command& command);
void add_bench(CLI::App& app, Command& command);
void add_serve(CLI::App& app, Command& command);
void add_ask(CLI::App& app, Command& command);
void add_launch(CLI::App& app, Command& command);
void add_route(CLI::App& app, Command& command);

struct CommonOptions {
  std::string device = "cpu";
  int threads = 0;  // 0: this rank's fair share of the cores
  std::string dtype = "bf16";
  bool json = false;
  bool quiet = false;
  std::string reduction = "invariant";
  std::string device_sums = "auto";
  double step_timeout = 30;  // seconds
  std::string kv_format;     // empty: the engine's choice
  double key_channels = 1;
};

// --device, --threads, --dtype, --json, --quiet.
void add_common_flags(CLI::App& app, CommonOptions& options);
// --reduction invariant|fast, --device-sums and --step-timeout, for commands that run a model on several ranks.
void add_rank_flags(CLI::App& app, CommonOptions& options);

// --kv-format and --key-channels, for commands that run a model with a cache.
void add_cache_flags(CLI::App& app, CommonOptions& options);

// The engine's options with the cache and the devices' sums as these flags say.
EngineOptions cache_options(const CommonOptions& options);

enum class RunsOn { cpu, any_device };

// Error(unimplemented) for a device that this build, this host or this command does not have.
void require_device(const CommonOptions& options, RunsOn runs_on);

// "24%" or "0.24", for --budget; Error(invalid) unless it is above 0.
double budget_named(const std::string& text);

// Of a flag's text: what is wrong with it unless it is a number between these; NaN is none.
std::function<std::string(const std::string&)> number_between(double least, double most);

// Results overwrite nothing, and have their name when they are whole: Error(invalid) where the file holds something;
// where it is written meanwhile; what names it then, Error(failed) where that fails. A pipe or a device is itself.
void check_new_file(const std::string& path);
std::string file_in_the_making(const std::string& path);
void name_new_file(const std::string& path);

// The seconds of a flag.
inline std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(int64_t(seconds * 1000));
}

Reduction reduction_kind(const CommonOptions& options);
DeviceSums device_sums_kind(const CommonOptions& options);

}  // namespace pleat
