#pragma once
// A router as it runs, but for the sockets and the time: processes of it come and go, and nothing of one is left to
// the next.
#include <memory>
#include <set>

#include "cluster/http/http_connections.h"
#include "tests/cluster/simulation/port.h"

namespace pleat::test {

struct RouterTerms {
  RouterOptions options;
  HttpLimits http;
  bool door = false;  // clients come over HTTP; otherwise they are of its own process
};

class SimulatedRouter {
 public:
  // A connection to the replica of this address.
  using Reach = std::function<kj::Promise<kj::Own<kj::AsyncIoStream>>(const std::string& address,
                                                                      const std::shared_ptr<Cable>& cable)>;
  SimulatedRouter(kj::Timer& timer, Record& record, const RouterTerms& terms, Reach reach, Random random);
  ~SimulatedRouter() noexcept(false);

  void start();
  bool up() const { return process_ != nullptr; }
  // Its process is no more. `told`: its system lives and ends its connections; otherwise nobody hears of it. Sessions
  // have to be gone.
  void end(bool told);
  void drain(kj::TimePoint at_most);
  // No new text may begin that was asked for at this time.
  bool drains_at(kj::TimePoint time) const { return drains_ && time >= drains_since_; }
  // A drain is over: it wants to end.
  bool drained() const;

  // The replicas from now on, for later processes too.
  void list(const std::set<std::string>& addresses);

  // While it is up.
  ReplicaSet& replicas();
  // Where clients come in.
  Port& port() { return port_; }

  const RouterOptions& options() const { return terms_.options; }
  const HttpLimits& limits() const { return terms_.http; }
  // When somebody last found as many connections as may be.
  kj::TimePoint last_full() const { return last_full_; }
  int64_t moves() const;  // of texts, over HTTP

  // Says what is more than it may be; `at_rest`: what it still counts.
  void check_bounds();
  bool at_rest() const;
  void check_at_rest();

 private:
  struct Process;

  kj::Timer& timer_;
  Record& record_;
  const RouterTerms terms_;
  const Reach reach_;
  Random random_;
  std::vector<std::string> addresses_;
  kj::TimePoint ends_ = kj::origin<kj::TimePoint>(), last_full_ = ends_, drains_since_ = ends_;
  bool drains_ = false;
  int64_t moves_ = 0;  // of processes that have ended
  Cables to_replicas_;
  Port port_;
  std::unique_ptr<Process> process_;
};

}  // namespace pleat::test
