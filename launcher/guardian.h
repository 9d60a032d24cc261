#pragma once
// Under mpirun or srun the program forks before MPI starts: the child is the rank, the parent stays as its guardian.
// The guardian ends with 70 and one line on stderr when the rank dies: who, by what, in which step, layer and
// collective. A non-zero end of one rank makes the launcher end the others.
namespace pleat {

constexpr int kExitPeerLost = 70;

// Runs `body` as a guarded rank if an MPI launcher started this process as one of several, else directly; returns its
// exit code. Call it first thing in main, before any thread exists. What `body` throws is printed as one line and
// becomes an exit code: 2 for invalid and unimplemented, 70 for peer_lost (one line a host), else 1. A body that
// returns 0 leaves the ranks in order.
int run_guarded(int argc, char** argv, int (*body)(int argc, char** argv));

}  // namespace pleat
