#pragma once
// Someone who asks the router for one text, and reads it in one way or another.
#include <memory>
#include <optional>

#include "cluster/router/session.h"
#include "tests/cluster/simulation/random.h"
#include "tests/cluster/simulation/record.h"
#include "tests/cluster/simulation/toy_model.h"

namespace pleat::test {

enum class Manner { reads, reads_slowly, stops_reading, leaves, fails };

struct ClientPlan {
  int number = 0;
  kj::TimePoint arrives = kj::origin<kj::TimePoint>();
  Manner manner = Manner::reads;
  Request request;
  uint32_t deadline_ms = 0;             // 0: none
  size_t patience = SIZE_MAX;           // pieces, after which it stops reading, leaves or fails
  kj::Duration pace = 0 * kj::SECONDS;  // a piece, at most
  bool meets_faults = true;
  bool comes_again = false;  // when it is told to, until it gets its text
  int64_t most_ahead = 0;    // tokens that a replica may write for a client that takes none
};

class SimulatedClient {
 public:
  SimulatedClient(kj::Timer& timer, Record& record, ReplicaSet& replicas, const RouterOptions& options, ClientPlan plan,
                  Random random);

  // What became of it.
  enum class End { none, whole, refused, left };
  End end() const { return end_; }
  int moves() const { return end_ == End::none && session_ ? session_->moves() : moves_; }
  rpc::Error::Code refusal() const { return refusal_; }

  // An engine has written so many of its tokens.
  void asked(int64_t written);

 private:
  void arrive();
  kj::Promise<void> take(rpc::Piece::Reader piece);
  kj::Promise<void> manner_of_taking();
  void leave();
  void over(const Routed& routed);
  void check_whole(const Routed& routed);
  bool may_be_refused(rpc::Error::Code code) const;
  void close(End end);

  kj::Timer& timer_;
  Record& record_;
  ReplicaSet& replicas_;
  const RouterOptions& options_;
  const ClientPlan plan_;
  Random random_;
  const WholeText whole_;
  size_t tokens_ = 0, pieces_ = 0, taken_ = 0, logprobs_ = 0;  // taken_: tokens
  std::string text_;
  End end_ = End::none;
  rpc::Error::Code refusal_ = rpc::Error::Code::INTERNAL;
  int moves_ = 0;
  std::unique_ptr<Session> session_;
  kj::Promise<void> arriving_, running_ = kj::READY_NOW, leaving_ = kj::READY_NOW;
};

}  // namespace pleat::test
