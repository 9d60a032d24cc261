#pragma once
// What the environment says about the job before MPI starts.
#include <string>

namespace pleat {

struct LaunchedRank {
  int rank = 0;
  int ranks = 1;        // 1: not under an MPI launcher, or alone
  int local_ranks = 1;  // on this host
  int local_rank = 0;   // among these
};

// From mpirun (Open MPI, MPICH and its relatives) or srun.
LaunchedRank launched_rank();

// Of a list like "2(x3),1", as Slurm writes it: nodes 0 to 2 have two tasks, node 3 has one.
int tasks_of_node(const std::string& list, int node);

// The process of this host that started this rank, whatever wrappers lie between: the next one above it that was not
// told the rank. 0: not known.
int launcher_pid();

}  // namespace pleat
