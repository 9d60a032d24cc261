#include "cluster/connections.h"

#include <capnp/rpc-twoparty.h>

#include <algorithm>
#include <memory>

#include "cluster/read_ahead.h"

namespace pleat {
namespace {

constexpr auto kFlushTurn = 5 * kj::MILLISECONDS;

capnp::ReaderOptions reader_options(const ServerLimits& limits) {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = uint64_t(limits.message_bytes()) / sizeof(capnp::word);
  options.nestingLimit = 16;
  return options;
}

}  // namespace

class Connections::Connection {
 public:
  Connection(Connections& all, kj::Own<kj::AsyncIoStream> stream)
      : all_(all),
        stream_(kj::mv(stream)),
        network_(stream_, capnp::rpc::twoparty::Side::SERVER, reader_options(limits())),
        rpc_(capnp::makeRpcServer(network_, kj::heap<EngineService>(all.service_,
                                                                    [self = self_]() -> kj::Own<void> {
                                                                      if (*self) (*self)->close_if_unread();
                                                                      return kj::heap<Call>(self);
                                                                    }))),
        last_call_(all.service_.timer.now()) {
    all_.open_.push_back(this);
    ++all_.service_.connections;
  }
  ~Connection() noexcept(false) {
    *self_ = nullptr;
    std::erase(all_.open_, this);
    --all_.service_.connections;
  }
  KJ_DISALLOW_COPY(Connection);

  kj::Promise<void> over() {
    auto paf = kj::newPromiseAndFulfiller<void>();
    close_ = kj::mv(paf.fulfiller);
    return network_.onDisconnect().exclusiveJoin(kj::mv(paf.promise)).exclusiveJoin(idle());
  }
  size_t unsent_bytes() { return network_.getCurrentQueueSize(); }

 private:
  // While a call runs.
  class Call {
   public:
    explicit Call(std::shared_ptr<Connection*> connection) : connection_(std::move(connection)) {
      if (*connection_) ++(*connection_)->calls_;
    }
    ~Call() {
      if (!*connection_) return;
      --(*connection_)->calls_;
      (*connection_)->last_call_ = (*connection_)->all_.service_.timer.now();
    }
    KJ_DISALLOW_COPY(Call);

   private:
    const std::shared_ptr<Connection*> connection_;
  };

  const ServerLimits& limits() const { return all_.service_.terms.limits; }
  // Ready when there has been no call for too long.
  kj::Promise<void> idle() {
    kj::Timer& timer = all_.service_.timer;
    const kj::Duration patience = limits().idle_timeout_ms * kj::MILLISECONDS;
    const kj::TimePoint end = (calls_ > 0 ? timer.now() : last_call_) + patience;
    if (timer.now() >= end) return kj::READY_NOW;
    return timer.atTime(end).then([this] { return idle(); });
  }
  void close_if_unread() {
    if (int64_t(unsent_bytes()) > limits().unread_bytes()) close_->fulfill();
  }

  Connections& all_;
  const std::shared_ptr<Connection*> self_ = std::make_shared<Connection*>(this);  // for calls that outlive it
  ReadAhead stream_;
  capnp::TwoPartyVatNetwork network_;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc_;
  kj::Own<kj::PromiseFulfiller<void>> close_;
  int calls_ = 0;
  kj::TimePoint last_call_;  // its end
};

void Connections::add(kj::Own<kj::AsyncIoStream> stream) {
  if (int64_t(open_.size()) >= service_.terms.limits.connections) return;
  auto connection = kj::heap<Connection>(*this, kj::mv(stream));
  auto over = connection->over();
  tasks_.add(over.attach(kj::mv(connection)));
}

kj::Promise<void> Connections::flush(kj::Duration patience) {
  // At least one turn: an answer may not have been written yet.
  return service_.timer.afterDelay(kFlushTurn).then([this, patience]() -> kj::Promise<void> {
    const bool sent = std::all_of(open_.begin(), open_.end(), [](Connection* c) { return c->unsent_bytes() == 0; });
    if (sent || patience < kFlushTurn) return kj::READY_NOW;
    return flush(patience - kFlushTurn);
  });
}

// A client that breaks the protocol loses its connection, and that is all.
void Connections::taskFailed(kj::Exception&&) {}

}  // namespace pleat
