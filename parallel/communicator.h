#pragma once
// Collectives between the ranks of a job. Every rank makes the same calls in the same order with matching sizes: the
// StepPlan alone steers them. Each call is entered in the ledger, waits at most the deadline, and then throws
// Error(peer_lost) with one line that names the late rank, step, layer and collective; with an empty message when
// another rank of this host has said it.
//
// The deadline counts from the start of the wait or, on one host, from the late rank's last Ledger::beat(). So long
// work of one rank between collectives (loading, waiting for requests) is legitimate while it beats. Between hosts
// beats are not seen: an idle rank 0 there broadcasts an empty plan more often than the deadline.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/reduce_tree.h"
#include "parallel/ledger.h"
#include "parallel/waiting.h"

namespace pleat {

// Who sends which nodes of one or two trees: fixed at start, the same on all ranks.
struct TreeExchange {
  int leaves = 0;
  std::vector<std::vector<TreeNode>> nodes;  // [ranks] what each rank sums itself, possibly nothing
  std::vector<FinishTree> finish;            // how the ranks' sums are added
  std::vector<int> place;                    // of the ranks' sums, in rank order: index among the values of `finish`
  int most_nodes = 0;                        // of any rank

  TreeExchange() = default;
  // Rank r owns leaves [first_leaf(r), first_leaf(r + 1)) and sends their cover: the same bits for every number of
  // ranks.
  TreeExchange(int leaves, int ranks);
  // The same leaves, but every rank that has any sends one sum: fewer bytes, other bits.
  static TreeExchange one_sum_a_rank(int leaves, int ranks);
  // Both in one message: a rank sends its nodes of `first`, then those of `second`; the trees' sums are added.
  static TreeExchange joint(const TreeExchange& first, const TreeExchange& second);

 private:
  void count();
};

// Among the ranks of one host, which share its memory.
struct HostPlace {
  int rank, ranks;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  HostPlace on_host() const { return on_host_; }
  Ledger& ledger() { return *ledger_; }

  // Where the following collectives belong, for the ledger. layer -1: outside the layers.
  void at(int64_t step, int layer);
  // The deadline of a wait; the same on all ranks. Default 60 s.
  void set_timeout(std::chrono::nanoseconds timeout) { deadline_.timeout_ns = timeout.count(); }
  std::chrono::nanoseconds timeout() const { return std::chrono::nanoseconds(deadline_.timeout_ns); }
  // A barrier after work that takes ranks of other hosts, whose beats are not seen, so much longer; the same on all
  // ranks.
  void barrier_after(const char* name, std::chrono::nanoseconds longer);

  // out [n] = tree sum over all ranks of their nodes' values: mine [nodes[rank()]][n], in the exchange's order. The
  // same bits on every rank and for every number of ranks. `name` is for the ledger ("attention", "ffn"). out may be
  // mine.
  void tree_all_reduce(const char* name, const TreeExchange& exchange, const float* mine, int64_t n, float* out);

  // all = the ranks' parts in rank order; counts [ranks] in bytes.
  void all_gather(const char* name, std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all);
  // Like all_gather, but only rank 0 gets the result; others pass nullptr.
  void gather(const char* name, std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all);
  // Rank 0's bytes, to all.
  void broadcast(const char* name, std::span<std::byte> bytes);
  void barrier(const char* name);

  // The smallest value of all ranks: what they agree on (instruction set, memory, pages). Not for the hot path.
  int64_t agree_min(const char* name, int64_t value);

  // For a wait elsewhere (for a device) that has passed the deadline, what to say first: the late rank of this host and
  // where it was last seen, or nothing where none is behind this one. Throws Error(peer_lost) with an empty message
  // where another rank of this host has spoken.
  virtual std::string speak() const = 0;

  // Since start: seconds spent inside collectives, those of them in which nothing could be done before another rank
  // had come, and bytes this rank sent.
  double seconds() const { return seconds_; }
  double wait_seconds() const { return double(waited_ns_) * 1e-9; }
  int64_t bytes_sent() const { return bytes_sent_; }

 protected:
  Communicator(int rank, int ranks, HostPlace on_host, Ledger* ledger)
      : rank_(rank), ranks_(ranks), on_host_(on_host), ledger_(ledger) {}
  const Deadline& deadline() const { return deadline_; }
  int64_t& waited_ns() { return waited_ns_; }

  virtual void do_tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out) = 0;
  virtual void do_all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) = 0;
  virtual void do_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) = 0;
  virtual void do_broadcast(std::span<std::byte> bytes) = 0;
  virtual void do_barrier() = 0;

 private:
  template <class Collective>
  void account(const char* name, int64_t bytes, Collective&& collective);

  int rank_, ranks_;
  HostPlace on_host_;
  Ledger* ledger_;
  Deadline deadline_;
  double seconds_ = 0;
  int64_t waited_ns_ = 0;
  int64_t bytes_sent_ = 0;
};

}  // namespace pleat
