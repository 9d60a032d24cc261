#pragma once
// What the environment says about the job before MPI starts.

namespace pleat {

struct LaunchedRank {
  int rank = 0;
  int ranks = 1;        // 1: not under an MPI launcher, or alone
  int local_ranks = 1;  // on this host
  int local_rank = 0;   // among these
};

// From mpirun (Open MPI, MPICH and its relatives) or srun.
LaunchedRank launched_rank();

// The process of this host that started this rank, whatever wrappers lie between: the next one above it that was not
// told the rank. 0: not known.
int launcher_pid();

}  // namespace pleat
