#pragma once
// Ranks as threads of one process: the collectives of processes on one host, where tests and sanitizers can see all of
// them.
#include <functional>
#include <memory>

#include "kernels/buffer.h"
#include "parallel/shared_exchange.h"

namespace pleat {

// What the ranks share. Outlives their communicators.
class ThreadHub {
 public:
  explicit ThreadHub(int ranks);
  int ranks() const { return int(ledgers_.size()); }

 private:
  friend class ThreadCommunicator;
  std::vector<Peer> peers() const;
  std::vector<Ledger> ledgers_;
  Buffer region_;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(ThreadHub& hub, int rank);
  std::string speak() const override { return exchange_.watch().speak(); }

 private:
  void do_tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out) override;
  void do_all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) override;
  void do_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) override;
  void do_broadcast(std::span<std::byte> bytes) override;
  void do_barrier() override;

  SharedExchange exchange_;
};

// Runs `body` on `ranks` threads, each with its own communicator, and waits for all. Rethrows the first error that says
// something. A rank whose peers have thrown gives up after the deadline, so set_timeout() a short one where errors are
// expected.
void run_ranks(int ranks, const std::function<void(Communicator&)>& body);

}  // namespace pleat
