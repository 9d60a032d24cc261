#pragma once
// Ranks as processes started by an MPI launcher. Inside one host they exchange through shared memory; a job on several
// hosts sends MPI messages. Nothing here names an MPI type; without MPI, no_mpi.cpp stands in.
#include <chrono>
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace pleat {

enum class MpiPath {
  automatic,      // shared memory where one host holds all ranks
  between_hosts,  // messages in any case
};

struct MpiJoin {
  int expected_rank = 0, expected_ranks = 1;  // as the launcher's environment says
  std::string ledger_name;                    // SharedMemory of one Ledger, this rank's
  int threads = 1;                            // of this rank
  std::chrono::milliseconds timeout{60000};
  MpiPath path = MpiPath::automatic;
};

struct MpiJob {
  std::unique_ptr<Communicator> communicator;
  bool oversubscribed = false;  // more threads than cores for the ranks of this host
};

// Once a process. Collectives then belong to the calling thread. A rank that waits longer than the timeout for the
// others to start ends the process with `exit_code_lost` and one line on stderr.
MpiJob join_mpi(const MpiJoin& join, int exit_code_lost);

// Ends MPI in order. After the last collective of every communicator.
void leave_mpi();

}  // namespace pleat
