#pragma once
// What a seed decides about a world.
#include <span>

#include "tests/cluster/simulation/cable.h"
#include "tests/cluster/simulation/faults.h"
#include "tests/cluster/simulation/simulated_caller.h"
#include "tests/cluster/simulation/simulated_client.h"
#include "tests/cluster/simulation/simulated_replica.h"

namespace pleat::test {

// Addresses that clients of the door have.
constexpr int kAddresses = 4;

CableQuality some_cable_quality(Random& random);

class Chance {
 public:
  explicit Chance(uint64_t seed);

  int replicas() const { return replicas_; }
  RouterTerms router_terms();
  ReplicaTerms replica_terms();
  std::vector<ClientPlan> clients();
  std::vector<CallerPlan> callers();
  // After all that: as many as run together, who all have to get their texts, be it when they come again.
  std::vector<ClientPlan> late_clients(kj::TimePoint now);
  std::vector<Fault> faults();
  kj::Duration absence() { return random_.between(100 * kj::MILLISECONDS, 6 * kj::SECONDS); }

  // Whose prompt this is: it says so at its end. Those who ask without the router have numbers from kCallers.
  static constexpr size_t kCallers = 1000;
  static size_t client_of(std::span<const ToyCell> prompt);

 private:
  Request some_request(size_t number);
  void some_manner(ClientPlan& plan);
  void some_talk(ClientPlan& plan);

  Random random_;
  const int replicas_;
  const bool door_;  // clients speak HTTP
  const bool calm_;  // without faults
  ReplicaTerms terms_;
  int client_texts_ = 0;
  std::vector<std::vector<int32_t>> beginnings_;  // of prompts
  size_t clients_ = 0;
};

}  // namespace pleat::test
