#pragma once
// One accepted request as its client sees it: what the engine reports goes to the client's sink as fast as that takes
// it, until the request ends or is ended. Nothing here ever waits for the client while the engine computes: what the
// sink does not take is kept, up to a bound, and beyond that the client is cut off.
#include <string>
#include <variant>

#include <kj/async.h>
#include <kj/timer.h>

#include "cluster/exchange.h"
#include "cluster/refusal.h"
#include "cluster/server_limits.h"
#include "core/text/tokenizer.h"

namespace pleat {

using Outcome = std::variant<Completion, Refusal>;

class Delivery {
 public:
  // Without a sink the completion alone is delivered.
  Delivery(kj::Timer& timer, const ServerLimits& limits, const Tokenizer& tokenizer, kj::Maybe<rpc::Sink::Client> sink);

  // What became of it; once. deadline: from now; 0: none.
  kj::Promise<Outcome> run(kj::Duration deadline);

  // What the engine says about it.
  void take(Report report);
  // Ends it now, whatever the engine and the client are doing; of several reasons the first counts.
  void end(Refusal why);

  bool has_sink() const { return sink_ != nullptr; }
  // The engine has nothing more to say about it.
  bool computed() const { return completion_ || refused_; }
  // Of run().
  bool delivered() const { return delivered_; }
  const std::optional<Refusal>& refusal() const { return refusal_; }

 private:
  kj::Promise<void> pump();
  kj::Promise<void> send_piece(rpc::Sink::Client& sink);
  kj::Promise<void> in_time(kj::Promise<void> sent, const char* late);
  kj::Promise<void> refuse_after(kj::Duration delay, rpc::Error::Code code, std::string message);

  kj::Timer& timer_;
  const ServerLimits& limits_;
  const Tokenizer& tokenizer_;
  kj::Maybe<rpc::Sink::Client> sink_;
  Growth waiting_;  // for the sink
  std::optional<Completion> completion_;
  std::optional<Refusal> refusal_;
  bool refused_ = false;  // by the engine
  bool delivered_ = false;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> idle_;   // the pump, while there is nothing to send
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> ended_;  // by end()
};

}  // namespace pleat
