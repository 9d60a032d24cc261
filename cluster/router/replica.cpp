#include "cluster/router/replica.h"

#include <algorithm>
#include <utility>

#include "cluster/router/waiting.h"
#include "kernels/check.h"

namespace pleat {
namespace {

int64_t rounded_up(kj::Duration time) { return (time + kj::SECONDS - kj::NANOSECONDS) / kj::SECONDS; }

}  // namespace

Replica::Replica(kj::Timer& timer, const Connect& connect, const RouterOptions& options, Accept accept,
                 std::string address, int number)
    : timer_(timer),
      connect_(connect),
      options_(options),
      accept_(std::move(accept)),
      address_(std::move(address)),
      number_(number),
      living_(kj::evalLater([this] { return live(); }).eagerlyEvaluate(nullptr)) {}

std::string Replica::trouble() const {
  if (!connected()) return why_;
  if (draining_) return "it is shutting down";
  return breaker_.allows(timer_.now()) ? "" : "its requests fail; it is tried again soon";
}

// Connects, watches until that fails, and again, with a pause that grows while it keeps failing.
kj::Promise<void> Replica::live() {
  return connect()
      .then([this] { return watch(); })
      .catch_([this](kj::Exception&& exception) {
        lose(exception.getDescription().cStr());
        return timer_.atTime(breaker_.reopens());
      })
      .then([this] { return live(); });
}

kj::Promise<void> Replica::connect() {
  auto known = connect_(address_).then([this](kj::Own<kj::AsyncIoStream> stream) {
    link_ = kj::heap<Link>(kj::mv(stream));
    return link_->engine().infoRequest().send().then(
        [this](capnp::Response<rpc::Engine::InfoResults>&& answer) { learn(answer.getInfo()); });
  });
  return within(timer_, options_.connect_timeout, kj::mv(known), "it does not answer");
}

kj::Promise<void> Replica::watch() {
  auto condemned = kj::newPromiseAndFulfiller<void>();
  condemn_ = kj::mv(condemned.fulfiller);
  struct Poll {
    static kj::Promise<void> again(Replica& self) {
      auto asked = self.link_->engine().statsRequest().send().then(
          [&self](capnp::Response<rpc::Engine::StatsResults>&& answer) { self.learn(answer.getStats()); });
      return within(self.timer_, self.options_.stats_timeout, kj::mv(asked), "it does not answer any more")
          .then([&self] { return self.timer_.afterDelay(self.options_.stats_period); })
          .then([&self] { return again(self); });
    }
  };
  return Poll::again(*this).exclusiveJoin(link_->lost()).exclusiveJoin(kj::mv(condemned.promise));
}

void Replica::learn(rpc::Info::Reader info) {
  facts_.model = info.getModel().cStr();
  facts_.identity = info.getIdentity().cStr();
  facts_.message_bytes = info.getLimits().getMessageBytes();
  facts_.max_positions = info.getBlueprint().getMaxPositions();
  facts_.info = capnp::clone(info);
  KJ_IF_MAYBE (why, accept_(*this)) kj::throwFatalException(failure(kj::Exception::Type::FAILED, *why));
  accepted_ = true;
  draining_ = false;
  others_ = 0;
  progress_ = timer_.now();
  breaker_.reached();
}

void Replica::learn(rpc::Stats::Reader stats) {
  draining_ = stats.getDraining();
  others_ = std::max<int64_t>(0, int64_t(stats.getOutstandingTokens()) - ours_);
  const uint64_t computed = stats.getPromptTokens() + stats.getGeneratedTokens();
  if (computed != computed_ || stats.getRunning() + stats.getWaiting() == 0) progress_ = timer_.now();
  computed_ = computed;
  facts_.stats = capnp::clone(stats);
  if (timer_.now() - progress_ > options_.piece_timeout)
    give_up(concat("it has computed nothing for ", rounded_up(options_.piece_timeout), " s although it has requests"));
}

void Replica::lose(const std::string& why) {
  if (accepted_) ++failures_;
  accepted_ = false;
  why_ = why;
  link_ = nullptr;
  facts_.stats = nullptr;
  breaker_.lost(timer_.now());
}

void Replica::give_up(const std::string& why) {
  if (connected()) condemn_->reject(failure(kj::Exception::Type::DISCONNECTED, why));
}

Replica::Stay::Stay(std::shared_ptr<Replica> replica, int64_t tokens) : replica_(std::move(replica)), tokens_(tokens) {
  replica_->ours_ += tokens_;
  ++replica_->requests_;
  is_trial_ = replica_->breaker_.begin();
}

Replica::Stay::~Stay() noexcept(false) {
  replica_->ours_ -= tokens_;
  if (is_trial_ && !known_) replica_->breaker_.forgone();
}

void Replica::Stay::succeeded() {
  if (std::exchange(known_, true)) return;
  replica_->breaker_.succeeded();
}

void Replica::Stay::failed() {
  known_ = true;
  ++replica_->failures_;
  replica_->breaker_.failed(replica_->timer_.now());
}

}  // namespace pleat
