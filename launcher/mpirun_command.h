#pragma once
// How `pleat launch` calls mpirun: which ranks where, on which cores, over which network, with which environment.
#include <map>
#include <string>
#include <vector>

namespace pleat {

struct LaunchOptions {
  int ranks = 0;                     // 0: the tasks of the Slurm allocation
  std::string hosts;                 // an Open MPI host file, lines "NAME slots=N"; empty: Slurm's hosts, or this one
  std::string interface;             // or a network like 10.0.0.0/8; empty: Open MPI and NCCL choose
  int restarts = 5;                  // failures in a row after which it gives up
  bool json = false;                 // events as JSON
  std::vector<std::string> command;  // the subcommand and its flags
};

// What the command depends on beside the options.
struct Surroundings {
  std::string program;                             // pleat's own path
  int cores = 1;                                   // of this host that this process may use
  int hardware_threads = 1;                        // of these cores
  bool root = false;                               // Open MPI refuses root unless told twice
  std::map<std::string, std::string> environment;  // of this process
};

Surroundings surroundings();

struct MpirunCommand {
  int ranks = 0;
  std::vector<std::string> words;                  // mpirun's argv
  std::map<std::string, std::string> environment;  // added to this process's own
};

// The file that a batch job writes; "" of other commands.
std::string batch_output(const std::vector<std::string>& command);

// Error(invalid) where the options say nothing that can be run. `resume`: a batch job continues its output.
//
// Cores: on this host alone mpirun binds each rank to its share of them, in a Slurm allocation to its task's. On the
// hosts of a file each rank takes its share of its host's itself (take_share_of_cores()). With less than a core a rank
// nothing is bound.
MpirunCommand mpirun_command(const LaunchOptions& options, const Surroundings& surroundings, bool resume);

// The words as a shell takes them.
std::string shell_line(const std::vector<std::string>& words);

}  // namespace pleat
