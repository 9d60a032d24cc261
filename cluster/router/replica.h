#pragma once
// One replica as a router sees it: the connection, which is made again whenever it is lost, what the replica is and how
// it fares.
#include <memory>
#include <string>

#include <kj/timer.h>

#include "cluster/router/breaker.h"
#include "cluster/router/link.h"
#include "cluster/router/router_options.h"

namespace pleat {

// What a router knows of a replica from its answers.
struct ReplicaFacts {
  std::string model, identity;
  uint64_t message_bytes = 0;  // that it takes
  int64_t max_positions = 0;
  kj::Own<rpc::Info::Reader> info;    // as it came; null before
  kj::Own<rpc::Stats::Reader> stats;  // the last ones; null while it is not connected
};

class Replica {
 public:
  // Whether a replica with these facts may serve here; else why not, in a sentence.
  using Accept = std::function<kj::Maybe<std::string>(const Replica& replica)>;

  Replica(kj::Timer& timer, const Connect& connect, const RouterOptions& options, Accept accept, std::string address,
          int number);
  KJ_DISALLOW_COPY(Replica);

  const std::string& address() const { return address_; }
  int number() const { return number_; }  // no other replica of the router has ever had it
  const ReplicaFacts& facts() const { return facts_; }

  bool connected() const { return link_ != nullptr && accepted_; }
  // Requests may go there.
  bool usable() const { return connected() && !draining_ && breaker_.allows(timer_.now()); }
  // Why not; empty where it is usable.
  std::string trouble() const;
  // Tokens that are still to be computed there, as far as is known.
  int64_t load() const { return ours_ + others_; }

  // A request's stay: it counts as load until the end.
  class Stay {
   public:
    Stay(std::shared_ptr<Replica> replica, int64_t tokens);
    ~Stay() noexcept(false);
    KJ_DISALLOW_COPY(Stay);
    Replica& replica() { return *replica_; }
    rpc::Engine::Client engine() { return replica_->link_->engine(); }
    // How it goes: it has brought something; it ended badly, whatever it brought.
    void succeeded();
    void failed();

   private:
    std::shared_ptr<Replica> replica_;
    const int64_t tokens_;
    bool is_trial_ = false, known_ = false;
  };

  // It answers no more although its connection stands: the connection is given up, and with it every request there.
  void give_up(const std::string& why);

  uint64_t failures() const { return failures_; }  // requests that failed there, and lost connections
  uint64_t requests() const { return requests_; }  // that went there

 private:
  kj::Promise<void> live();
  kj::Promise<void> connect();
  kj::Promise<void> watch();
  void learn(rpc::Info::Reader info);
  void learn(rpc::Stats::Reader stats);
  void lose(const std::string& why);

  kj::Timer& timer_;
  const Connect& connect_;
  const RouterOptions& options_;
  const Accept accept_;
  const std::string address_;
  const int number_;

  ReplicaFacts facts_;
  Breaker breaker_;
  std::string why_ = "not connected yet";
  bool accepted_ = false, draining_ = false;
  int64_t ours_ = 0, others_ = 0;
  uint64_t failures_ = 0, requests_ = 0;
  uint64_t computed_ = 0;  // tokens, by its stats
  kj::TimePoint progress_ = kj::origin<kj::TimePoint>();
  kj::Own<kj::PromiseFulfiller<void>> condemn_;  // of the link
  kj::Own<Link> link_;
  kj::Promise<void> living_;
};

}  // namespace pleat
