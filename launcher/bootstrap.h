#pragma once
// How a process becomes a rank: alone, or one of an MPI job.
#include <chrono>
#include <memory>

#include "parallel/communicator.h"

namespace pleat {

// Alone: a communicator of one rank. Under an MPI launcher: joins the job (MPI_Init). Once a process, from the main
// thread, which alone may then call collectives. A collective waits at most `step_timeout` for a rank that shows no
// sign of life.
std::unique_ptr<Communicator> join_ranks(int threads_per_rank, std::chrono::milliseconds step_timeout);

// Ends the job in order, after the last collective and before or after the communicator's end: marks this rank finished
// and finalises MPI. Without it an exit counts as a death in the middle. run_guarded() calls it when the body returns
// 0.
void leave_ranks();

// More threads than cores on this host? Valid after join_ranks().
bool oversubscribed();

// In the environment: ranks shall share their host's cores themselves. `pleat launch` sets it where it cannot tell
// mpirun how many a rank has: the hosts of a host file may differ.
constexpr const char* kShareCores = "PLEAT_SHARE_CORES";

// With it, this process runs on its share of its host's cores from now on. Before any thread exists.
void take_share_of_cores();

// Hardware threads of this host that the job may use: those of its launcher, whatever it bound this rank to.
int job_cores();

// Each rank's share of the job's cores, as far as its own reach, whether it is bound to these or all ranks have the
// same; at least 1.
int fair_threads(int job_cores, int own_cores, int ranks);

// That of this rank among those of this host. Valid at any time.
int default_threads();

}  // namespace pleat
