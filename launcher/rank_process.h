#pragma once
// This process as a rank: what its guardian, MPI and main share. One a process, as a rank is.
#include <chrono>
#include <memory>

#include "launcher/launched.h"
#include "parallel/communicator.h"
#include "parallel/mpi_communicator.h"
#include "parallel/shared_memory.h"

namespace pleat {

struct RankProcess {
  LaunchedRank place;
  SharedMemory ledger_memory;  // of several ranks
  Ledger* ledger = nullptr;    // in it
  int threads = 1;             // of this rank
  bool joined = false;         // MPI has started
  bool left = false;           // and ended in order
  bool oversubscribed = false;

  // Makes the ledger unless it is there.
  void open_ledger();
};

RankProcess& rank_process();

// join_ranks() under a launcher; a test may ask for a path that the machine does not call for.
std::unique_ptr<Communicator> join_job(int threads_per_rank, std::chrono::milliseconds step_timeout, MpiPath path);

}  // namespace pleat
