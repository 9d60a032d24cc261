#include "launcher/launched.h"

#include <cstdlib>
#include <initializer_list>

namespace pleat {
namespace {

// The first of the variables that is set, else `otherwise`. Slurm writes "2(x3)" for lists: the first number counts.
int number(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names) {
    if (const char* text = std::getenv(name)) return std::atoi(text);
  }
  return otherwise;
}

}  // namespace

LaunchedRank launched_rank() {
  LaunchedRank launched;
  // SLURM_NTASKS is also set where srun started nothing (a batch script); SLURM_STEP_NUM_TASKS is not.
  launched.ranks = number({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}, 1);
  if (launched.ranks <= 1) return {};
  launched.rank = number({"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"}, 0);
  launched.local_ranks =
      number({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_TASKS_PER_NODE"}, launched.ranks);
  launched.local_rank = number({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}, launched.rank);
  return launched;
}

}  // namespace pleat
