#include "tests/cluster/simulation/world.h"

#include <algorithm>
#include <set>

#include "tests/cluster/simulation/chance.h"
#include "tests/cluster/simulation/door_client.h"
#include "tests/cluster/simulation/session_client.h"

namespace pleat::test {
namespace {

constexpr auto kLongest = 120 * kj::SECONDS;  // for all requests to end; for everything to come to rest
constexpr auto kNoticed = 5 * kj::SECONDS;    // after the end of a fault the router knows of it

class World {
 public:
  World(uint64_t seed, bool prints)
      : timer_(kj::origin<kj::TimePoint>()),
        wait_scope_(loop_),
        record_(timer_, prints),
        chance_(seed),
        random_(mixed(seed)),
        router_terms_(chance_.router_terms()),
        router_(
            timer_, record_, router_terms_,
            [this](const std::string& address, const auto& cable) {
              return servers_[size_t(std::stoi(address))]->port().connect(cable);
            },
            random_.another()) {
    const ReplicaTerms terms = chance_.replica_terms();
    for (int number = 0; number < chance_.replicas(); ++number) {
      listed_.insert(std::to_string(number));
      servers_.push_back(std::make_unique<SimulatedReplica>(
          timer_, record_, terms, [this](auto prompt, int64_t written) { asked(prompt, written); }, number,
          random_.another()));
      servers_.back()->start();
    }
    list();
    router_.start();
  }

  Tally live() {
    for (const Fault& fault : chance_.faults()) faults_.add(fault);
    for (ClientPlan& plan : chance_.clients()) add(std::move(plan));
    for (CallerPlan& plan : chance_.callers()) add(std::move(plan));
    if (!pass_until([&] { return all_ended() && faults_.empty(); })) record_.broken("a request never ends");
    if (!pass_until([&] { return at_rest(); })) record_.broken("the world does not come to rest");
    // And it is as good as new.
    const size_t before = clients_.size();
    for (ClientPlan& plan : chance_.late_clients(timer_.now())) add(std::move(plan));
    if (!pass_until([&] { return all_ended() && at_rest(); })) record_.broken("a late request never ends");
    for (size_t i = before; i < clients_.size(); ++i)
      if (clients_[i]->end() != clients_[i]->due()) record_.broken("a late client has not what it is due");
    for (const auto& server : servers_) server->check_at_rest();
    router_.check_at_rest();
    return tally();
  }

 private:
  void add(ClientPlan plan) {
    const int number = int(clients_.size());
    plan.number = number;
    if (router_terms_.door)
      clients_.push_back(std::make_unique<DoorClient>(timer_, record_, router_, std::move(plan), random_.another()));
    else
      clients_.push_back(std::make_unique<SessionClient>(timer_, record_, router_, std::move(plan), random_.another()));
  }
  void add(CallerPlan plan) {
    const auto connect = [this, replica = size_t(plan.replica)] {
      const CableQuality quality = some_cable_quality(random_);
      return servers_[replica]->port().connect(std::make_shared<Cable>(timer_, record_, quality, random_.another()));
    };
    callers_.push_back(std::make_unique<SimulatedCaller>(timer_, record_, std::move(plan), connect));
  }
  void asked(std::span<const ToyCell> prompt, int64_t written) {
    const size_t client = Chance::client_of(prompt);
    if (client >= Chance::kCallers) return;
    if (client >= clients_.size()) return record_.broken("an engine has a prompt that nobody sent");
    clients_[client]->asked(written);
  }

  // The event loop runs dry, whoever computes has a turn, and time goes on to what comes next.
  template <class Condition>
  bool pass_until(Condition&& over) {
    const kj::TimePoint end = timer_.now() + kLongest;
    while (timer_.now() < end && record_.first_broken().empty()) {
      wait_scope_.poll();
      if (turn()) continue;
      if (over()) return true;
      kj::TimePoint next = end;
      const auto sooner = [&](kj::Maybe<kj::TimePoint> event) {
        KJ_IF_MAYBE (time, event) next = std::min(next, *time);
      };
      sooner(timer_.nextEvent());
      for (const auto& server : servers_) sooner(server->next_turn());
      sooner(faults_.next());
      if (noticed_ > timer_.now()) sooner(noticed_);
      timer_.advanceTo(std::max(next, timer_.now()));
      befall();
    }
    return !record_.first_broken().empty();
  }

  // Of all who compute; false: none has anything to do now.
  bool turn() {
    bool turned = false;
    try {
      for (const auto& server : servers_) turned |= server->turn();
    } catch (const Error& error) {
      record_.broken("an engine fails: ", error.what());
    }
    return turned;
  }

  void befall() {
    while (const auto fault = faults_.take(timer_.now())) happen(*fault);
    for (size_t replica = 0; replica < servers_.size(); ++replica)
      if (servers_[replica]->drained()) {
        servers_[replica]->end(true);
        faults_.add({Fault::start, timer_.now() + chance_.absence(), int(replica), {}});
      }
    if (router_.drained()) end_router(true, chance_.absence());
    router_.check_bounds();
  }

  void end_router(bool told, kj::Duration absence) {
    for (const auto& client : clients_) client->lose_router(told);
    router_.end(told);
    noticed_ = std::max(noticed_, timer_.now() + absence + kNoticed);
    faults_.add({Fault::start_router, timer_.now() + absence, 0, {}});
  }

  // False: not to the router.
  bool happen_to_router(const Fault& fault) {
    if (fault.kind < Fault::start_router) return false;
    if (fault.kind == Fault::start_router) {
      router_.start();
    } else if (router_.up()) {
      ++happened_;
      if (fault.kind == Fault::drain_router)
        router_.drain(timer_.now() + fault.lasts);
      else
        end_router(fault.kind == Fault::kill_router, fault.lasts);
    }
    return true;
  }

  void happen(const Fault& fault) {
    if (happen_to_router(fault)) return;
    SimulatedReplica& server = *servers_[size_t(fault.replica)];
    if (fault.kind == Fault::start) {
      if (!server.up()) server.start();
      return;
    }
    if (fault.kind == Fault::list) {
      listed_.insert(std::to_string(fault.replica));
      return list();
    }
    if (!server.up()) return;
    ++happened_;
    noticed_ = std::max(noticed_, timer_.now() + fault.lasts + kNoticed);
    switch (fault.kind) {
      case Fault::kill:
      case Fault::power_off:
        server.end(fault.kind == Fault::kill);
        return faults_.add({Fault::start, timer_.now() + fault.lasts, fault.replica, {}});
      case Fault::drain:
        return server.drain(fault.lasts);
      case Fault::stall:
        return server.port().stall(timer_.now() + fault.lasts);
      case Fault::reset:
        return server.port().reset();
      case Fault::deaf:
      case Fault::mute:
        return server.port().half_open(fault.kind == Fault::deaf);
      case Fault::hang:
        record_.note("replica ", fault.replica, " hangs");
        return server.hang(timer_.now() + fault.lasts);
      case Fault::freeze:
        server.hang(timer_.now() + fault.lasts);
        return server.port().stall(timer_.now() + fault.lasts);
      case Fault::unlist:
        listed_.erase(std::to_string(fault.replica));
        list();
        return faults_.add({Fault::list, timer_.now() + fault.lasts, fault.replica, {}});
      default:
        return;
    }
  }
  void list() {
    std::string all;
    for (const std::string& address : listed_) all += ' ' + address;
    record_.note("the router's list:", all.c_str());
    router_.list(listed_);
  }

  bool all_ended() const {
    return std::all_of(clients_.begin(), clients_.end(),
                       [](const auto& client) { return client->end() != SimulatedClient::End::none; }) &&
           std::all_of(callers_.begin(), callers_.end(), [](const auto& caller) { return caller->over(); });
  }
  bool at_rest() const {
    return timer_.now() >= noticed_ && router_.at_rest() &&
           std::all_of(servers_.begin(), servers_.end(), [](const auto& server) { return server->at_rest(); });
  }

  Tally tally() const {
    Tally tally;
    tally.worlds = 1;
    tally.faults = happened_;
    tally.moved = router_.moves();
    for (const auto& client : clients_) {
      tally.moved += client->moves() > 0;
      tally.whole += client->end() == SimulatedClient::End::whole;
      tally.left += client->end() == SimulatedClient::End::left;
      if (client->end() != SimulatedClient::End::refused) continue;
      ++tally.refused;
      tally.late += client->refusal() == rpc::Error::Code::DEADLINE_EXCEEDED;
      tally.slow += client->refusal() == rpc::Error::Code::SLOW_READER;
      tally.too_large += client->refusal() == rpc::Error::Code::TOO_LARGE;
    }
    tally.turned_away = tally.refused - tally.late - tally.slow - tally.too_large;
    for (const auto& caller : callers_) tally.called += caller->answered();
    tally.digest = record_.digest();
    tally.broken = record_.first_broken();
    return tally;
  }

  kj::TimerImpl timer_;  // outlives the loop, which keeps cancelled calls until its own end
  kj::EventLoop loop_;
  kj::WaitScope wait_scope_;
  Record record_;
  Chance chance_;
  Random random_;
  Faults faults_;
  std::set<std::string> listed_;
  int64_t happened_ = 0;
  kj::TimePoint noticed_ = kj::origin<kj::TimePoint>();
  std::vector<std::unique_ptr<SimulatedReplica>> servers_;
  const RouterTerms router_terms_;
  SimulatedRouter router_;
  std::vector<std::unique_ptr<SimulatedClient>> clients_;
  std::vector<std::unique_ptr<SimulatedCaller>> callers_;
};

}  // namespace

Tally live_through(uint64_t seed, bool prints) {
  World world(seed, prints);
  return world.live();
}

}  // namespace pleat::test
