#pragma once
// One text, whichever replicas write it. Where one is lost, hangs or shuts down, another goes on behind the tokens that
// have come so far; the client sees one text, the same as without the fault.
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "cluster/refusal.h"
#include "cluster/router/replica_set.h"

namespace pleat {

struct Routed {
  rpc::FinishReason reason = rpc::FinishReason::STOP;
  uint32_t prompt_tokens = 0, completion_tokens = 0;
  std::optional<Refusal> refusal;  // it ended with this, and not as the other fields say
};

class Session {
 public:
  // What happens to a piece; the next one comes when that is done.
  using Take = std::function<kj::Promise<void>(rpc::Piece::Reader piece)>;

  // The request says its seed, since a text goes on with the same one. It is copied.
  Session(kj::Timer& timer, ReplicaSet& replicas, const RouterOptions& options, rpc::GenerateRequest::Reader request,
          Take take);
  ~Session() noexcept(false);
  KJ_DISALLOW_COPY(Session);

  // What became of it, after the last piece has been taken; once. Dropping the promise cancels it. Refusals: those of a
  // replica where the request or the client is at fault; overloaded, with the time after which to try again, where no
  // replica can take it. Fails only where `take` does.
  kj::Promise<Routed> run();

  int moves() const { return moves_; }  // of the text, once it had begun, from one replica to another

 private:
  class Attempt;  // at one replica
  kj::Promise<Routed> go_on();
  kj::Promise<std::optional<Routed>> try_at(std::shared_ptr<Replica> replica);
  std::optional<Routed> judge(Attempt& attempt, rpc::Result<rpc::Completion>::Reader result);
  kj::Promise<Routed> nobody();
  kj::Promise<void> hangs(Attempt& attempt, bool again = false);
  kj::Promise<void> receive(Attempt& attempt, rpc::Piece::Reader piece);
  kj::Promise<void> hand_on(rpc::Piece::Reader piece);
  bool fits(const Replica& replica) const;
  int64_t expected_tokens() const;
  kj::Promise<Routed> after_the_last_piece(Routed routed);

  kj::Timer& timer_;
  ReplicaSet& replicas_;
  const RouterOptions options_;
  capnp::MallocMessageBuilder message_;
  rpc::GenerateRequest::Reader request_;
  const Take take_;
  const kj::TimePoint start_;
  std::vector<uint64_t> beginnings_;

  std::vector<int32_t> written_;  // tokens that have come
  std::string identity_;          // of who wrote them
  // Since the last piece: replicas that were tried, those of them where the text stood still, and since when none was
  // left to try.
  std::set<int> tried_, stood_still_;
  std::optional<kj::TimePoint> alone_since_;
  uint32_t retry_after_ms_ = 0;       // by tried ones; 0: none was overloaded
  std::string trouble_;               // of the last one
  std::optional<Refusal> too_large_;  // for one of them; others may hold more
  int moves_ = 0;
  std::deque<kj::TimePoint> untaken_;  // when the pieces came that the client has not taken
  bool client_lost_ = false;
  kj::TimePoint progress_;  // the last piece, or the last one taken
  kj::Promise<void> taking_;
};

}  // namespace pleat
