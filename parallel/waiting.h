#pragma once
// How a rank waits for its peers: spinning while that is cheap, then out of the way; and how it gives up.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/ledger.h"

namespace pleat {

struct Peer {
  std::string host;
  int pid = 0;
  const Ledger* ledger = nullptr;  // nullptr: on another host
};

// Of a wait for peers.
struct Deadline {
  int64_t timeout_ns = 60'000'000'000;
  int64_t other_hosts_ns = 0;  // more, for ranks whose beats are not seen
};

// One wait: step() between two looks at the condition. Pauses, then (when cores are short: at once) yields, then
// sleeps. It begins anew where the process was stopped meanwhile, as by a suspended job.
class Backoff {
 public:
  explicit Backoff(bool oversubscribed) : oversubscribed_(oversubscribed) {}
  void step();
  // Long enough that looking at clocks and ledgers costs nothing.
  bool long_wait() const { return sleeps_ > 0; }
  int64_t start_ns() const { return start_ns_; }

 private:
  void look();

  const bool oversubscribed_;
  int pauses_ = 0;
  int64_t start_ns_ = 0, last_ns_ = 0;  // last_ns_: the last look at the clock
  int sleeps_ = 0;
};

// Knows the peers and the deadline; decides that one is lost.
class Watch {
 public:
  // `blamed`: shared by the ranks of this host; the first to give up sets it and speaks for all. `waited_ns`: grows by
  // the length of every wait.
  Watch(int rank, std::vector<Peer> peers, const Deadline& deadline, int64_t& waited_ns, std::atomic<int32_t>& blamed,
        bool oversubscribed)
      : rank_(rank),
        peers_(std::move(peers)),
        deadline_(deadline),
        waited_ns_(waited_ns),
        blamed_(blamed),
        oversubscribed_(oversubscribed) {}

  // For a wait elsewhere that has passed the deadline: the rank of this host that has entered the fewest collectives,
  // fewer than this one, "rank 1 (host n7, pid 42) is late: last seen ..."; else empty. Throws Error(peer_lost) with an
  // empty message where another rank of this host has spoken.
  std::string speak() const;

  // Returns when ready(). behind(peer): has not arrived yet. Throws Error(peer_lost).
  template <class Ready, class Behind>
  void wait(Ready&& ready, Behind&& behind) const {
    Backoff backoff(oversubscribed_);
    while (!ready()) {
      backoff.step();
      if (backoff.long_wait()) check(backoff.start_ns(), behind);
    }
    if (backoff.start_ns() != 0) waited_ns_ += steady_ns() - backoff.start_ns();
  }

 private:
  void check(int64_t start_ns, const std::function<bool(int)>& behind) const;
  [[noreturn]] void blame(int peer, int64_t start_ns) const;
  void take_the_word() const;
  std::string describe_late(int peer) const;

  const int rank_;
  const std::vector<Peer> peers_;  // [ranks]
  const Deadline& deadline_;
  int64_t& waited_ns_;
  std::atomic<int32_t>& blamed_;
  const bool oversubscribed_;
};

}  // namespace pleat
