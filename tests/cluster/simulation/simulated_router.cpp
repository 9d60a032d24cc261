#include "tests/cluster/simulation/simulated_router.h"

#include <algorithm>

#include "tests/cluster/simulation/chance.h"

namespace pleat::test {

struct SimulatedRouter::Process {
  Process(kj::Timer& timer, Connect connect, const RouterTerms& terms)
      : replicas(timer, std::move(connect), terms.options),
        gateway(timer, replicas, terms.options, terms.http, ApiKeys()),
        connections(gateway) {}

  ReplicaSet replicas;
  Gateway gateway;
  HttpConnections connections;
};

SimulatedRouter::SimulatedRouter(kj::Timer& timer, Record& record, const RouterTerms& terms, Reach reach, Random random)
    : timer_(timer),
      record_(record),
      terms_(terms),
      reach_(std::move(reach)),
      random_(random),
      port_(timer, record, "the router") {}
SimulatedRouter::~SimulatedRouter() noexcept(false) = default;

void SimulatedRouter::start() {
  record_.note("the router starts");
  drains_ = false;
  const auto connect = [this](const std::string& address) {
    const auto cable = std::make_shared<Cable>(timer_, record_, some_cable_quality(random_), random_.another());
    to_replicas_.add(cable);
    return reach_(address, cable);
  };
  process_ = std::make_unique<Process>(timer_, connect, terms_);
  process_->replicas.set(addresses_);
  if (!terms_.door) return;
  port_.open([this](kj::Own<kj::AsyncIoStream> stream, const std::string& from) {
    if (process_->connections.full(from)) last_full_ = timer_.now();
    process_->connections.add(kj::mv(stream), from);
  });
}

void SimulatedRouter::end(bool told) {
  record_.note("the router ", told ? "ends" : "is off");
  moves_ = moves();
  if (!told) to_replicas_.stall(nullptr);
  port_.close(told);
  process_ = nullptr;
}

void SimulatedRouter::drain(kj::TimePoint at_most) {
  record_.note("the router drains");
  drains_ = true;
  drains_since_ = timer_.now();
  ends_ = at_most;
  process_->gateway.drain();
}

bool SimulatedRouter::drained() const {
  return process_ && drains_ && (timer_.now() >= ends_ || process_->gateway.idle());
}

void SimulatedRouter::list(const std::set<std::string>& addresses) {
  addresses_.assign(addresses.begin(), addresses.end());
  if (process_) process_->replicas.set(addresses_);
}

ReplicaSet& SimulatedRouter::replicas() { return process_->replicas; }

int64_t SimulatedRouter::moves() const { return moves_ + (process_ ? int64_t(process_->gateway.metrics.moves) : 0); }

void SimulatedRouter::check_bounds() {
  if (!process_) return;
  const Metrics& metrics = process_->gateway.metrics;
  if (metrics.connections > terms_.http.connections)
    record_.broken("the router has ", metrics.connections, " connections");
  if (metrics.texts > int64_t(kAddresses) * terms_.http.client_texts)
    record_.broken("the router has ", metrics.texts, " texts under way");
}

// As it sees the replicas, too.
bool SimulatedRouter::at_rest() const {
  if (!process_ || process_->gateway.metrics.texts > 0 || process_->gateway.metrics.connections > 0) return false;
  const auto& all = process_->replicas.all();
  return std::all_of(all.begin(), all.end(),
                     [](const auto& replica) { return replica->usable() && replica->load() == 0; });
}

void SimulatedRouter::check_at_rest() {
  if (!process_) return record_.broken("the router does not run at the end");
  for (const auto& replica : process_->replicas.all())
    if (replica->load() != 0) record_.broken("the router counts ", replica->load(), " tokens at rest");
  const Metrics& metrics = process_->gateway.metrics;
  if (metrics.texts != 0 || metrics.connections != 0)
    record_.broken("the router counts ", metrics.texts, " texts and ", metrics.connections, " connections at rest");
}

}  // namespace pleat::test
