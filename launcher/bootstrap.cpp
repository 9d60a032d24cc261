#include "launcher/bootstrap.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "launcher/guardian.h"
#include "launcher/rank_process.h"
#include "parallel/cores.h"
#include "parallel/self_communicator.h"

namespace pleat {

RankProcess& rank_process() {
  static RankProcess process;
  return process;
}

void RankProcess::open_ledger() {
  if (ledger) return;
  ledger_memory = SharedMemory::create(sizeof(Ledger));
  ledger = new (ledger_memory.data()) Ledger;
  ledger->pid = getpid();
  ledger->set_phase("starting");
}

std::unique_ptr<Communicator> join_ranks(int threads_per_rank, std::chrono::milliseconds step_timeout) {
  RankProcess& process = rank_process();
  process.place = launched_rank();
  process.threads = threads_per_rank;
  if (process.place.ranks == 1) {
    process.oversubscribed = size_t(threads_per_rank) > cores_of_process(0).count();
    return std::make_unique<SelfCommunicator>();
  }
  return join_job(threads_per_rank, step_timeout, MpiPath::automatic);
}

std::unique_ptr<Communicator> join_job(int threads_per_rank, std::chrono::milliseconds step_timeout, MpiPath path) {
  RankProcess& process = rank_process();
  process.open_ledger();
  MpiJob job = join_mpi({.expected_rank = process.place.rank,
                         .expected_ranks = process.place.ranks,
                         .ledger_name = process.ledger_memory.name(),
                         .threads = threads_per_rank,
                         .timeout = step_timeout,
                         .path = path},
                        kExitPeerLost);
  process.joined = true;
  process.oversubscribed = job.oversubscribed;
  return std::move(job.communicator);
}

void leave_ranks() {
  RankProcess& process = rank_process();
  if (!process.joined || process.left) return;
  leave_mpi();
  process.left = true;
  process.ledger->finished = 1;
}

bool oversubscribed() { return rank_process().oversubscribed; }

void take_share_of_cores() {
  const LaunchedRank place = launched_rank();
  if (!std::getenv(kShareCores) || place.local_ranks == 1) return;
  run_on(share_of_cores(whole_cores(cores_of_process(0)), place.local_rank, place.local_ranks));
}

int job_cores() {
  const int launcher = launcher_pid();
  const size_t cores = launcher > 0 ? cores_of_process(launcher).count() : 0;
  return cores > 0 ? int(cores) : int(sysconf(_SC_NPROCESSORS_ONLN));
}

int fair_threads(int job_cores, int own_cores, int ranks) {
  return std::clamp(job_cores / ranks, 1, std::max(1, own_cores));
}

int default_threads() {
  const int mine = int(cores_of_process(0).count()), ranks = launched_rank().local_ranks;
  return fair_threads(ranks == 1 ? mine : job_cores(), mine, ranks);
}

}  // namespace pleat
