#include "cluster/dispatcher.h"

#include <algorithm>
#include <numeric>

namespace pleat {
namespace {

int64_t tokens_of(const Request& request) {
  const int64_t most = request.given.empty() ? request.sampling.max_tokens : int64_t(request.given.size());
  return int64_t(request.prompt.size()) + most;
}

}  // namespace

class Dispatcher::Active {
 public:
  Active(Dispatcher& dispatcher, std::string id, int64_t tokens, std::shared_ptr<Client> client_,
         kj::Maybe<rpc::Sink::Client> sink)
      : id(std::move(id)),
        tokens(tokens),
        client(std::move(client_)),
        delivery(dispatcher.timer_, dispatcher.limits_, dispatcher.tokenizer_, kj::mv(sink)),
        dispatcher(&dispatcher) {
    ++client->requests;
  }
  ~Active() noexcept(false) {
    if (dispatcher) dispatcher->leave(*this);
  }
  KJ_DISALLOW_COPY(Active);

  const std::string id;
  const int64_t tokens;  // that admission counted
  const std::shared_ptr<Client> client;
  Delivery delivery;
  Dispatcher* dispatcher;  // nullptr once it is gone
};

Dispatcher::Dispatcher(kj::Timer& timer, Orders& orders, Reports& reports, const ServerLimits& limits,
                       const Tokenizer& tokenizer)
    : timer_(timer),
      orders_(orders),
      reports_(reports),
      limits_(limits),
      tokenizer_(tokenizer),
      admission_(limits.requests, limits.tokens),
      drained_(nullptr) {
  auto paf = kj::newPromiseAndFulfiller<void>();
  empty_ = kj::mv(paf.fulfiller);
  drained_ = paf.promise.fork();
}

// The event loop may keep a call that was cancelled until its own end.
Dispatcher::~Dispatcher() noexcept(false) {
  for (const auto& [id, active] : active_) active->dispatcher = nullptr;
}

kj::Promise<void> Dispatcher::run() {
  return reports_.when_any().then([this] {
    for (Report& report : reports_.take())
      if (const auto found = active_.find(report.id); found != active_.end())
        found->second->delivery.take(std::move(report));
    return run();
  });
}

void Dispatcher::require_open(const Client& client) {
  if (draining_) throw Refusal(rpc::Error::Code::DRAINING, "the server is shutting down");
  if (client.requests + client.reading >= limits_.requests_per_connection)
    turn_away(concat("this client has ", client.requests + client.reading, " requests under way, as many as it may"));
  if (admission_.full() || *reading_ >= limits_.requests) turn_away(under_way());
}

kj::Own<void> Dispatcher::reading(std::shared_ptr<Client> client) {
  ++client->reading;
  ++*reading_;
  return kj::heap(kj::defer([client = std::move(client), all = reading_] {
    --client->reading;
    --*all;
  }));
}

void Dispatcher::require_room(std::span<const Request> requests, const Client& client) {
  const auto count = int64_t(requests.size());
  const int64_t tokens = std::transform_reduce(requests.begin(), requests.end(), int64_t(0), std::plus{}, tokens_of);
  const int64_t most = std::min(limits_.requests, limits_.requests_per_connection);
  if (count > most || !admission_.could_hold(count, tokens))
    throw Refusal(rpc::Error::Code::TOO_LARGE,
                  concat(count, " requests of ", tokens, " tokens in one, a client has at most ", most, " of ",
                         limits_.tokens, " at a time"));
  if (client.requests + count > limits_.requests_per_connection)
    turn_away(concat("this client has ", client.requests, " requests under way, and may have ",
                     limits_.requests_per_connection));
  if (!admission_.has_room(count, tokens)) turn_away(under_way());
}

std::string Dispatcher::under_way() const {
  return concat("the server has ", admission_.requests(), " requests of ", admission_.tokens(), " tokens");
}

void Dispatcher::turn_away(const std::string& why) {
  ++overloaded_;
  const auto wait_ms = uint32_t(admission_.retry_after() / kj::MILLISECONDS);
  throw Refusal(rpc::Error::Code::QUEUE_FULL, concat(why, "; try again in ", wait_ms, " ms"), wait_ms);
}

kj::Promise<Outcome> Dispatcher::start(Request request, std::shared_ptr<Client> client,
                                       kj::Maybe<rpc::Sink::Client> sink, kj::Duration deadline) {
  require_open(*client);
  const int64_t tokens = tokens_of(request);
  if (!admission_.admit(tokens, timer_.now())) turn_away(under_way());
  request.id = concat("r", ++accepted_);
  auto active = kj::heap<Active>(*this, request.id, tokens, std::move(client), kj::mv(sink));
  active_[request.id] = active.get();
  orders_.put(Submit{std::move(request)});
  auto outcome = active->delivery.run(deadline);
  return outcome.attach(kj::mv(active));
}

void Dispatcher::leave(Active& active) {
  const Delivery& delivery = active.delivery;
  active_.erase(active.id);
  --active.client->requests;
  admission_.leave(active.tokens, timer_.now());
  if (!delivery.computed()) orders_.put(Cancel{active.id});
  if (delivery.delivered()) {
    ++completed_;
  } else if (!delivery.refusal()) {
    ++cancelled_;
  } else {
    switch (delivery.refusal()->code()) {
      case rpc::Error::Code::DEADLINE_EXCEEDED:
        ++deadline_exceeded_;
        break;
      case rpc::Error::Code::SLOW_READER:
        ++slow_readers_;
        break;
      case rpc::Error::Code::SINK_FAILED:  // as it does when the connection is lost
        ++cancelled_;
        break;
      default:
        ++refused_;
    }
  }
  if (draining_ && active_.empty()) empty_->fulfill();
}

void Dispatcher::drain(kj::Duration grace) {
  draining_ = true;
  if (active_.empty()) empty_->fulfill();
  const kj::TimePoint at = timer_.now() + grace;
  if (cut_ == nullptr || at < cut_at_) {
    cut_at_ = at;
    cut_ = timer_.atTime(at).then([this] { cut_off(); }).eagerlyEvaluate(nullptr);
  }
}

kj::Promise<uint32_t> Dispatcher::drained() {
  return drained_.addBranch().then([this] { return cut_off_; });
}

void Dispatcher::cut_off() {
  cut_off_ += uint32_t(active_.size());
  for (const auto& [id, active] : active_)
    active->delivery.end(Refusal(rpc::Error::Code::DRAINING, "the server shuts down and the grace time is over"));
}

void Dispatcher::write(rpc::Stats::Builder out) const {
  const EngineCounts engine = reports_.counts();
  out.setDraining(draining_);
  out.setRequests(uint32_t(admission_.requests()));
  out.setOutstandingTokens(uint64_t(admission_.tokens()));
  out.setWaiting(uint32_t(engine.waiting));
  out.setRunning(uint32_t(engine.running));
  out.setKvPages(uint64_t(engine.pages));
  out.setKvPagesFree(uint64_t(engine.free_pages));
  out.setPromptTokens(uint64_t(engine.prompt_tokens));
  out.setReusedTokens(uint64_t(engine.reused_tokens));
  out.setGeneratedTokens(uint64_t(engine.generated_tokens));
  out.setPreemptions(uint64_t(engine.preemptions));
  out.setFoldedTokens(uint64_t(engine.folded_rows));
  out.setStepSeconds(engine.step_seconds);
  out.setCollectiveSeconds(engine.collective_seconds);
  auto layers = out.initLayers(uint32_t(engine.layers.size()));
  for (uint32_t i = 0; i < layers.size(); ++i) {
    layers[i].setNeurons(uint32_t(engine.layers[i].choices));
    layers[i].setExact(uint64_t(engine.layers[i].fallback));
    layers[i].setRecallNeeded(uint64_t(engine.layers[i].needed));
    layers[i].setRecallFound(uint64_t(engine.layers[i].found));
  }
  out.setAccepted(uint64_t(accepted_));
  out.setCompleted(uint64_t(completed_));
  out.setCancelled(uint64_t(cancelled_));
  out.setDeadlineExceeded(uint64_t(deadline_exceeded_));
  out.setSlowReaders(uint64_t(slow_readers_));
  out.setOverloaded(uint64_t(overloaded_));
  out.setRefused(uint64_t(refused_));
}

}  // namespace pleat
