#include "parallel/waiting.h"

#include <sched.h>
#include <time.h>

#include <algorithm>

#include "kernels/check.h"
#include "parallel/one_decimal.h"

namespace pleat {
namespace {

constexpr int kPauses = 200;                // about 10 us: a peer that computes the same comes within that
constexpr int64_t kAwake_ns = 1'000'000;    // after that a peer is doing something else: sleep
constexpr int64_t kFirstSleep_ns = 50'000;  // doubling up to
constexpr int64_t kLongestSleep_ns = 1'600'000;
constexpr int64_t kStopped_ns = 1'000'000'000;  // between two looks: this process was stopped, and its peers with it

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

void Backoff::step() {
  if (pauses_ < kPauses) {
    if (pauses_++ == 0) start_ns_ = last_ns_ = steady_ns();
    return pause();
  }
  look();
  if (sleeps_ == 0 && last_ns_ - start_ns_ < kAwake_ns) {
    if (oversubscribed_) {
      sched_yield();
    } else {
      for (int i = 0; i < 16; ++i) pause();
    }
    return;
  }
  const timespec sleep{0, std::min(kFirstSleep_ns << std::min(sleeps_, 5), kLongestSleep_ns)};
  nanosleep(&sleep, nullptr);
  ++sleeps_;
  look();
}

void Backoff::look() {
  const int64_t now = steady_ns();
  if (now - last_ns_ > kStopped_ns) start_ns_ = now;
  last_ns_ = now;
}

void Watch::check(int64_t start_ns, const std::function<bool(int)>& behind) const {
  const int64_t now = steady_ns();
  int latest = -1;  // of the late ones, the one that has come least far
  for (int peer = 0; peer < int(peers_.size()); ++peer) {
    if (peer == rank_ || !behind(peer)) continue;
    const Ledger* ledger = peers_[peer].ledger;
    if (ledger && ledger->lost.load(std::memory_order_relaxed)) throw Error(ErrorKind::peer_lost, "");
    const int64_t alive = ledger ? std::max(start_ns, ledger->beat_ns.load(std::memory_order_relaxed)) : start_ns;
    if (now - alive < deadline_.timeout_ns + (ledger ? 0 : deadline_.other_hosts_ns)) continue;
    if (latest < 0 || (ledger && peers_[latest].ledger && ledger->collectives < peers_[latest].ledger->collectives)) {
      latest = peer;
    }
  }
  if (latest >= 0) blame(latest, start_ns);
}

std::string Watch::speak() const {
  const auto entered = [&](int rank) { return peers_[rank].ledger->collectives.load(std::memory_order_relaxed); };
  int latest = rank_;
  for (int peer = 0; peer < int(peers_.size()); ++peer) {
    if (peers_[peer].ledger == nullptr) continue;
    if (peers_[peer].ledger->lost.load(std::memory_order_relaxed)) throw Error(ErrorKind::peer_lost, "");
    if (entered(peer) < entered(latest)) latest = peer;
  }
  take_the_word();
  return latest == rank_ ? "" : describe_late(latest);
}

void Watch::take_the_word() const {
  if (blamed_.exchange(1) != 0) throw Error(ErrorKind::peer_lost, "");
}

std::string Watch::describe_late(int peer) const {
  const Peer& late = peers_[peer];
  const std::string who = concat("rank ", peer, " (host ", late.host, ", pid ", late.pid, ") is late");
  return late.ledger ? who + ": last seen " + describe(*late.ledger) : who;
}

void Watch::blame(int peer, int64_t start_ns) const {
  take_the_word();
  throw Error(ErrorKind::peer_lost,
              concat(describe_late(peer), "; rank ", rank_, " waited ",
                     one_decimal(double(steady_ns() - start_ns) * 1e-9), " s ", describe(*peers_[rank_].ledger)));
}

}  // namespace pleat
