#pragma once
// A client of the router's own process, which asks for one text.
#include <memory>

#include "cluster/router/session.h"
#include "tests/cluster/simulation/simulated_client.h"

namespace pleat::test {

class SessionClient final : public SimulatedClient {
 public:
  SessionClient(kj::Timer& timer, Record& record, SimulatedRouter& router, ClientPlan plan, Random random);

  int moves() const override { return moves_ + (session_ ? session_->moves() : 0); }
  void lose_router(bool told) override;

 private:
  void arrive() override;
  kj::Promise<void> take(rpc::Piece::Reader piece);
  kj::Promise<void> manner_of_taking();
  void leave();
  void drop();
  void ended(const Routed& routed);
  void check_whole(const Routed& routed);

  const WholeText whole_;
  size_t tokens_ = 0, pieces_ = 0, logprobs_ = 0;
  std::string text_;
  int moves_ = 0;  // of attempts before
  kj::TimePoint asked_ = kj::origin<kj::TimePoint>();
  std::unique_ptr<Session> session_;
  kj::Promise<void> running_ = kj::READY_NOW, leaving_ = kj::READY_NOW;
};

}  // namespace pleat::test
