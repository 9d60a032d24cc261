#include "launcher/launched.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr std::initializer_list<const char*> kRankNames = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK",
                                                           "SLURM_PROCID"};

// The first of the variables that is set, else `otherwise`.
int number(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names) {
    if (const char* text = std::getenv(name)) return std::atoi(text);
  }
  return otherwise;
}

bool was_told(int pid, const std::string& name) {
  std::ifstream environment(concat("/proc/", pid, "/environ"), std::ios::binary);
  for (std::string entry; std::getline(environment, entry, '\0');)
    if (entry.starts_with(name + "=")) return true;
  return false;
}

int parent_of(int pid) {
  const std::string name = "PPid:";
  std::ifstream status(concat("/proc/", pid, "/status"));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name)) return std::atoi(line.c_str() + name.size());
  return 0;
}

}  // namespace

int tasks_of_node(const std::string& list, int node) {
  std::istringstream parts(list);
  int tasks = 1;
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t times = part.find("(x");
    tasks = std::atoi(part.c_str());
    node -= times == std::string::npos ? 1 : std::atoi(part.c_str() + times + 2);
    if (node < 0) break;
  }
  return std::max(1, tasks);
}

LaunchedRank launched_rank() {
  LaunchedRank launched;
  // SLURM_NTASKS is also set where srun started nothing (a batch script); SLURM_STEP_NUM_TASKS is not.
  launched.ranks = number({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}, 1);
  if (launched.ranks <= 1) return {};
  launched.rank = number(kRankNames, 0);
  const char* const of_nodes = std::getenv("SLURM_STEP_TASKS_PER_NODE");
  const int of_this = of_nodes ? tasks_of_node(of_nodes, number({"SLURM_NODEID"}, 0)) : launched.ranks;
  launched.local_ranks = number({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}, of_this);
  launched.local_rank = number({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}, launched.rank);
  return launched;
}

int launcher_pid() {
  int pid = getppid();
  const auto name = std::find_if(kRankNames.begin(), kRankNames.end(), [](auto each) { return std::getenv(each); });
  while (name != kRankNames.end() && pid > 0 && was_told(pid, *name)) pid = parent_of(pid);
  return pid;
}

}  // namespace pleat
