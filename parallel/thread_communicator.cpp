#include "parallel/thread_communicator.h"

#include <unistd.h>

#include <exception>
#include <mutex>
#include <thread>

#include "kernels/check.h"

namespace pleat {

ThreadHub::ThreadHub(int ranks) : ledgers_(ranks), region_(SharedExchange::region_bytes(ranks)) {
  for (Ledger& ledger : ledgers_) ledger.pid = getpid();
}

std::vector<Peer> ThreadHub::peers() const {
  std::vector<Peer> peers;
  for (const Ledger& ledger : ledgers_) peers.push_back({"this process", ledger.pid, &ledger});
  return peers;
}

// Threads of tests: there are seldom enough cores for all, so they wait as on an oversubscribed host.
ThreadCommunicator::ThreadCommunicator(ThreadHub& hub, int rank)
    : Communicator(rank, hub.ranks(), {rank, hub.ranks()}, &hub.ledgers_[rank]),
      exchange_(hub.region_.as<>(), rank, hub.ranks(),
                Watch(rank, hub.peers(), deadline(), waited_ns(), SharedExchange::blamed(hub.region_.as<>()), true)) {}

void ThreadCommunicator::do_tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out) {
  exchange_.tree_all_reduce(exchange, mine, n, out);
}

void ThreadCommunicator::do_all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts,
                                       std::byte* all) {
  exchange_.all_gather(mine, counts, all);
}

void ThreadCommunicator::do_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) {
  exchange_.all_gather(mine, counts, rank() == 0 ? all : nullptr);
}

void ThreadCommunicator::do_broadcast(std::span<std::byte> bytes) { exchange_.broadcast(bytes); }
void ThreadCommunicator::do_barrier() { exchange_.barrier(); }

void run_ranks(int ranks, const std::function<void(Communicator&)>& body) {
  ThreadHub hub(ranks);
  std::mutex mutex;
  std::exception_ptr first;
  bool first_speaks = false;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        ThreadCommunicator communicator(hub, rank);
        body(communicator);
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        const bool speaks = error.what()[0] != 0;
        if (first && (first_speaks || !speaks)) return;
        first = std::current_exception();
        first_speaks = speaks;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace pleat
