#include "launcher/mpirun_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "kernels/check.h"
#include "launcher/bootstrap.h"
#include "parallel/cores.h"

extern char** environ;

namespace pleat {
namespace {

int number(const std::map<std::string, std::string>& environment, const char* name) {
  const auto found = environment.find(name);
  return found == environment.end() ? 0 : std::atoi(found->second.c_str());
}

bool starts_with(const std::string& text, const char* beginning) { return text.rfind(beginning, 0) == 0; }

bool names_a_host(const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.substr(0, line.find('#')).find_first_not_of(" \t\r") != std::string::npos) return true;
  return false;
}

// Of a flag of a batch job; empty: there is none.
std::string value_of(const std::vector<std::string>& command, const std::string& flag) {
  for (size_t i = 1; i < command.size() && command[0] == "generate"; ++i) {
    if (command[i] == flag && i + 1 < command.size()) return command[i + 1];
    if (command[i].starts_with(flag + "=")) return command[i].substr(flag.size() + 1);
  }
  return "";
}

void check(const LaunchOptions& options) {
  static const std::set<std::string> runs_on_ranks = {"serve", "generate", "eval", "bench", "check"};
  PLEAT_REQUIRE(!options.command.empty(),
                "nothing to launch: end the line with -- and a subcommand, like -- serve ...");
  PLEAT_REQUIRE(runs_on_ranks.count(options.command[0]), "'", options.command[0],
                "' does not run on ranks; launch starts serve, generate, eval, bench and check");
  const std::string input = value_of(options.command, "--input");
  PLEAT_REQUIRE(input != "/dev/stdin" && input != "/dev/fd/0" && input != "/proc/self/fd/0", "a job that is started ",
                "again cannot read its standard input again: give --input a file");
  PLEAT_REQUIRE(options.hosts.empty() || std::filesystem::is_regular_file(options.hosts), "there is no host file ",
                options.hosts);
  PLEAT_REQUIRE(options.hosts.empty() || names_a_host(options.hosts), "the host file '", options.hosts,
                "' names no host");
}

// As a shell takes it.
std::string quoted(const std::string& word) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string out = "'";
  for (const char c : word) {
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  }
  out += '\'';
  return out;
}

}  // namespace

std::string batch_output(const std::vector<std::string>& command) { return value_of(command, "--output"); }

Surroundings surroundings() {
  Surroundings all;
  all.program = std::filesystem::read_symlink("/proc/self/exe").string();
  const CoreSet usable = cores_of_process(0);
  all.cores = std::max(1, int(whole_cores(usable).size()));
  all.hardware_threads = std::max(1, int(usable.count()));
  all.root = geteuid() == 0;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) all.environment[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return all;
}

MpirunCommand mpirun_command(const LaunchOptions& options, const Surroundings& around, bool resume) {
  check(options);
  const bool slurm = around.environment.count("SLURM_JOB_ID") && options.hosts.empty();
  MpirunCommand out;
  out.ranks = options.ranks > 0 ? options.ranks : slurm ? number(around.environment, "SLURM_NTASKS") : 0;
  PLEAT_REQUIRE(out.ranks > 0,
                "how many ranks? -n 4, say; inside a Slurm allocation with --ntasks its number is taken");

  out.words = {"mpirun", "--quiet", "-np", std::to_string(out.ranks)};
  const auto add = [&](std::initializer_list<std::string> words) { out.words.insert(out.words.end(), words); };
  // mpirun counts cores; Slurm's CPUs are hardware threads where it knows of them.
  const int a_task = number(around.environment, "SLURM_CPUS_PER_TASK") * around.cores / around.hardware_threads;
  const int a_rank = slurm ? a_task : options.hosts.empty() ? around.cores / out.ranks : 0;
  if (!options.hosts.empty()) {
    add({"--hostfile", options.hosts});
    out.environment[kShareCores] = "1";
  }
  if (a_rank > 0)
    add({"--map-by", concat("slot:PE=", a_rank), "--bind-to", "core"});
  else
    add({"--bind-to", "none"});
  if (!slurm && options.hosts.empty() && a_rank == 0) add({"--oversubscribe"});

  // Ranks of one host may not read each other's memory everywhere; they need not.
  if (!around.environment.count("OMPI_MCA_btl_vader_single_copy_mechanism"))
    out.environment["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none";
  if (around.root) {
    out.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    out.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  if (!options.interface.empty()) {
    add({"--mca", "btl_tcp_if_include", options.interface, "--mca", "oob_tcp_if_include", options.interface});
    // NCCL knows interfaces by name only.
    if (options.interface.find('/') == std::string::npos) out.environment["NCCL_SOCKET_IFNAME"] = options.interface;
  }
  // Open MPI takes its own variables to other hosts, and nobody else's. Slurm names each host's devices there.
  const bool names_devices = around.environment.count("SLURM_JOB_ID") == 0;
  std::set<std::string> carried;
  for (const auto& variables : {around.environment, out.environment})
    for (const auto& [name, value] : variables)
      if (starts_with(name, "NCCL_") || starts_with(name, "UCX_") || name == kShareCores ||
          (names_devices && starts_with(name, "CUDA_")))
        carried.insert(name);
  for (const std::string& name : carried) add({"-x", name});

  add({around.program});
  out.words.insert(out.words.end(), options.command.begin(), options.command.end());
  const bool resumes = std::find(out.words.begin(), out.words.end(), "--resume") != out.words.end();
  if (resume && !batch_output(options.command).empty() && !resumes) add({"--resume"});
  return out;
}

std::string shell_line(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    line += quoted(word);
  }
  return line;
}

}  // namespace pleat
