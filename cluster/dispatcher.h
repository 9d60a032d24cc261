#pragma once
// The requests of all connections, on the event loop's side: admission, their way to the engine and back, draining.
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "cluster/admission.h"
#include "cluster/delivery.h"

namespace pleat {

class Dispatcher {
 public:
  Dispatcher(kj::Timer& timer, Orders& orders, Reports& reports, const ServerLimits& limits,
             const Tokenizer& tokenizer);
  ~Dispatcher() noexcept(false);

  // Hands on what the engine reports, for ever.
  kj::Promise<void> run();

  // A connection, of whose requests only so many are admitted.
  struct Client {
    int64_t requests = 0, reading = 0;
  };

  // Refusal where no request of this client would be admitted, whatever it is; those that are still being read count.
  void require_open(const Client& client);
  // One is being read until this is dropped.
  kj::Own<void> reading(std::shared_ptr<Client> client);
  // Refusal where a client's cannot be admitted together: tooLarge where not even while nothing else is there.
  void require_room(std::span<const Request> requests, const Client& client);

  // What becomes of it; its id is chosen here. Dropping the promise cancels it. Refusal where it is not admitted.
  kj::Promise<Outcome> start(Request request, std::shared_ptr<Client> client, kj::Maybe<rpc::Sink::Client> sink,
                             kj::Duration deadline);

  // Admits nothing any more, lets what runs go on for `grace` and cuts it off then. Again with less grace: the shortest
  // counts.
  void drain(kj::Duration grace);
  // Ready when a drain is over, with how many requests it cut off.
  kj::Promise<uint32_t> drained();

  void count_refused() { ++refused_; }
  void write(rpc::Stats::Builder out) const;

 private:
  class Active;  // a delivery and its place
  std::string under_way() const;
  [[noreturn]] void turn_away(const std::string& why);
  void leave(Active& active);
  void cut_off();

  kj::Timer& timer_;
  Orders& orders_;
  Reports& reports_;
  const ServerLimits& limits_;
  const Tokenizer& tokenizer_;
  Admission admission_;
  const std::shared_ptr<int64_t> reading_ = std::make_shared<int64_t>(0);  // a call may outlive this
  std::map<std::string, Active*> active_;                                  // by request id
  bool draining_ = false;
  kj::TimePoint cut_at_ = kj::origin<kj::TimePoint>();
  kj::Maybe<kj::Promise<void>> cut_;  // of a drain, at that time
  uint32_t cut_off_ = 0;              // requests, by it
  kj::Own<kj::PromiseFulfiller<void>> empty_;
  kj::ForkedPromise<void> drained_;
  int64_t accepted_ = 0, completed_ = 0, cancelled_ = 0, deadline_exceeded_ = 0, slow_readers_ = 0, overloaded_ = 0,
          refused_ = 0;
};

}  // namespace pleat
