#pragma once
// A server as it runs, but for what computes, the sockets, the threads and the time: processes of it come and go.
#include <algorithm>
#include <memory>
#include <vector>

#include "cluster/connections.h"
#include "cluster/engine_worker.h"
#include "tests/cluster/simulation/port.h"
#include "tests/cluster/simulation/toy_engine.h"

namespace pleat::test {

// What all of a world's servers have in common.
struct ReplicaTerms {
  BatchLimits batch;
  ServerLimits limits;
  kj::Duration step = 10 * kj::MILLISECONDS, row = 100 * kj::MICROSECONDS;
};

class SimulatedReplica {
 public:
  SimulatedReplica(kj::Timer& timer, Record& record, const ReplicaTerms& terms, ToyEngine::Progress progress,
                   int number, Random random);
  ~SimulatedReplica() noexcept(false);

  void start();
  bool up() const { return process_ != nullptr; }
  // Its process is no more. `told`: its system lives and ends its connections; otherwise nobody hears of it.
  void end(bool told);
  // A drain is over: it wants to end.
  bool drained() const;
  void drain(kj::Duration grace);

  // Where its clients come in.
  Port& port() { return port_; }
  // Computes nothing before.
  void hang(kj::TimePoint until) { free_at_ = std::max(free_at_, until); }

  // A turn of what computes, where it is time for one. False: it is not.
  bool turn();
  // When it may be; null: not before an order comes.
  kj::Maybe<kj::TimePoint> next_turn() const;

  // Says what is more than it may be; `at_rest`: what is not back where it was before the first request.
  void check_bounds();
  void check_at_rest();
  bool at_rest() const;

 private:
  struct Process;
  void check_empty(const Process& process);

  kj::Timer& timer_;
  Record& record_;
  const ReplicaTerms terms_;
  const ToyEngine::Progress progress_;
  const int number_;
  Random random_;
  kj::TimePoint free_at_ = kj::origin<kj::TimePoint>();
  std::unique_ptr<Process> process_;
  std::vector<std::unique_ptr<Process>> ended_;  // the event loop may still hold calls to them
  Port port_;
};

}  // namespace pleat::test
