#include "tests/cluster/simulation/simulated_replica.h"

#include <capnp/message.h>

#include <algorithm>

namespace pleat::test {
namespace {

ModelInfo toy_info() {
  ModelInfo info{"toy", {}, {}, "", "toy"};
  info.blueprint.max_positions = kToyPositions;
  return info;
}

struct Counts {
  explicit Counts(const Dispatcher& dispatcher) {
    capnp::word scratch[64] = {};
    capnp::MallocMessageBuilder message(kj::arrayPtr(scratch, 64));
    auto stats = message.initRoot<rpc::Stats>();
    dispatcher.write(stats);
    requests = stats.getRequests();
    tokens = int64_t(stats.getOutstandingTokens());
    accepted = int64_t(stats.getAccepted());
    ended = int64_t(stats.getCompleted() + stats.getCancelled() + stats.getDeadlineExceeded() + stats.getSlowReaders() +
                    stats.getRefused());
  }
  int64_t requests, tokens, accepted, ended;
};

}  // namespace

struct SimulatedReplica::Process {
  Process(kj::Timer& timer, Record& record, const ReplicaTerms& terms, const ToyEngine::Progress& progress)
      : limits(terms.limits),
        engine(terms.batch, progress),
        scheduler(terms.batch, toy_text().tokenizer, [this](StepPlan& plan) { return engine.compute(plan); }),
        worker(reports, scheduler),
        dispatcher(timer, orders, reports, limits, toy_text().tokenizer),
        service{timer, dispatcher, {toy_text(), limits, kToyPositions}, info, 5 * kj::SECONDS, timer.now()},
        connections(kj::heap<Connections>(service)),
        running(dispatcher.run().eagerlyEvaluate([&record](kj::Exception&& exception) {
          record.broken("a dispatcher fails: ", exception.getDescription());
        })),
        drained(dispatcher.drained()
                    .then([this](uint32_t) { return connections->flush(1 * kj::SECONDS); })
                    .then([this] { over = true; })
                    .eagerlyEvaluate(nullptr)) {}

  const ServerLimits limits;
  const ModelInfo info = toy_info();
  Orders orders;
  Reports reports;
  ToyEngine engine;
  Scheduler scheduler;
  EngineWorker worker;
  Dispatcher dispatcher;
  Service service;
  kj::Own<Connections> connections;
  int64_t most_accepted = INT64_MAX;  // once it drains
  bool over = false;
  kj::Promise<void> running, drained;
};

SimulatedReplica::SimulatedReplica(kj::Timer& timer, Record& record, const ReplicaTerms& terms,
                                   ToyEngine::Progress progress, int number, Random random)
    : timer_(timer),
      record_(record),
      terms_(terms),
      progress_(std::move(progress)),
      number_(number),
      random_(random),
      port_(timer, record, concat("replica ", number)) {}
SimulatedReplica::~SimulatedReplica() noexcept(false) = default;

void SimulatedReplica::start() {
  record_.note("replica ", number_, " starts");
  free_at_ = timer_.now();
  process_ = std::make_unique<Process>(timer_, record_, terms_, progress_);
  port_.open([&connections = *process_->connections](kj::Own<kj::AsyncIoStream> stream, const std::string&) {
    connections.add(kj::mv(stream));
  });
}

void SimulatedReplica::end(bool told) {
  record_.note("replica ", number_, told ? " ends" : " is off");
  port_.close(told);
  process_->running = nullptr;
  process_->drained = nullptr;
  process_->connections = nullptr;
  ended_.push_back(std::move(process_));
}

bool SimulatedReplica::drained() const { return process_ && process_->over; }

void SimulatedReplica::drain(kj::Duration grace) {
  record_.note("replica ", number_, " drains");
  process_->most_accepted = std::min(process_->most_accepted, Counts(process_->dispatcher).accepted);
  process_->dispatcher.drain(grace);
}

bool SimulatedReplica::turn() {
  if (!process_ || timer_.now() < free_at_) return false;
  std::vector<Order> orders = process_->orders.take(std::chrono::milliseconds(0));
  if (orders.empty() && !process_->worker.busy()) return false;
  const EngineCounts before = process_->reports.counts();
  process_->worker.turn(std::move(orders));
  const EngineCounts after = process_->reports.counts();
  const int64_t rows = after.prompt_tokens + after.generated_tokens - before.prompt_tokens - before.generated_tokens;
  record_.count(uint64_t(rows));
  free_at_ = timer_.now() + random_.between(terms_.step / 2, terms_.step) + rows * terms_.row;
  check_bounds();
  return true;
}

kj::Maybe<kj::TimePoint> SimulatedReplica::next_turn() const {
  if (process_ && free_at_ > timer_.now()) return free_at_;
  return nullptr;
}

// After a turn: whoever left before it has no text there any more.
void SimulatedReplica::check_bounds() {
  const Counts counts(process_->dispatcher);
  const EngineCounts engine = process_->reports.counts();
  const auto most = [&](const char* what, int64_t value, int64_t bound) {
    if (value > bound)
      record_.broken("replica ", number_, " has ", value, " ", what, ", at most ", bound, " are allowed");
  };
  most("accepted requests", counts.accepted, process_->most_accepted);
  most("requests", counts.requests, terms_.limits.requests);
  if (counts.requests > 1) most("tokens", counts.tokens, terms_.limits.tokens);
  most("texts that are written or wait", engine.waiting + engine.running, counts.requests);
  most("running texts", engine.running, terms_.batch.max_batch);
  most("connections", process_->service.connections, terms_.limits.connections);
  most("pages", engine.free_pages, terms_.batch.pages);
}

bool SimulatedReplica::at_rest() const {
  if (!process_) return false;
  // Of its connections the router's may be left.
  return Counts(process_->dispatcher).requests == 0 && !process_->worker.busy() && process_->service.connections <= 1;
}

void SimulatedReplica::check_at_rest() {
  if (!process_) return record_.broken("replica ", number_, " does not run at the end");
  for (const auto& process : ended_) check_empty(*process);
  check_empty(*process_);
  const EngineCounts engine = process_->reports.counts();
  if (engine.waiting + engine.running > 0)
    record_.broken("replica ", number_, "'s engine has ", engine.waiting + engine.running, " texts at the end");
  if (engine.free_pages != terms_.batch.pages)
    record_.broken("replica ", number_, " has ", engine.free_pages, " of ", terms_.batch.pages, " pages at the end");
}

// Of an ended process too: with its connections its requests have gone.
void SimulatedReplica::check_empty(const Process& process) {
  const Counts counts(process.dispatcher);
  if (counts.requests != 0 || counts.tokens != 0)
    record_.broken("replica ", number_, " still counts ", counts.requests, " requests of ", counts.tokens, " tokens");
  if (counts.accepted > counts.ended)
    record_.broken("replica ", number_, " accepted ", counts.accepted, " requests, of which ", counts.ended, " ended");
}

}  // namespace pleat::test
