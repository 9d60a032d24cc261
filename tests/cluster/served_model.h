#pragma once
// The embedded model behind the service, in this process: thread ranks compute, the test's own thread is the event loop
// of the server and of its clients, which talk over pipes.
#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <map>
#include <thread>

#include "cluster/connections.h"
#include "cluster/engine_worker.h"
#include "core/engine/scheduler.h"
#include "tests/core/engine/run.h"

namespace pleat::test {

// Limits that no test meets unless it changes them.
inline ServerLimits wide_limits() {
  ServerLimits limits;
  limits.complete(512, 16 * 512);
  return limits;
}

class ServedModel {
 public:
  explicit ServedModel(const ServerLimits& limits = wide_limits(), int ranks = 1, SchedulerOptions options = {})
      : io(kj::setupAsyncIo()),
        timer(io.provider->getTimer()),
        text_(ModelText::open(embedded_model())),
        info_{"embedded", {}, {}, "", "embedded"},
        limits_(limits),
        dispatcher(timer, orders_, reports_, limits_, text_.tokenizer),
        service_{timer, dispatcher, {text_, limits_, 512}, info_, 5 * kj::SECONDS, timer.now()},
        connections_(kj::heap<Connections>(service_)),
        running_(dispatcher.run().eagerlyEvaluate([](kj::Exception&& e) { ADD_FAILURE() << kj::str(e).cStr(); })) {
    engine_ = std::thread([this, ranks, options] {
      with_engine(embedded_model(), ranks, {}, [&](Engine& engine, Communicator& communicator) {
        Scheduler scheduler(engine, communicator, text_.tokenizer, options);
        work_for(orders_, reports_, scheduler, std::chrono::milliseconds(100));
      });
    });
    // Its first counts: it is loaded.
    while (reports_.counts().pages == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ~ServedModel() {
    connections_ = nullptr;
    orders_.put(Leave{});
    engine_.join();
  }
  ServedModel(const ServedModel&) = delete;

  ModelText& text() { return text_; }
  // A client's end of a new connection.
  kj::Own<kj::AsyncIoStream> connect_raw() {
    auto pipe = kj::newTwoWayPipe();
    connections_->add(kj::mv(pipe.ends[0]));
    return kj::mv(pipe.ends[1]);
  }

  template <class T>
  T wait(kj::Promise<T> promise) {
    return timer.timeoutAfter(20 * kj::SECONDS, kj::mv(promise)).wait(io.waitScope);
  }
  void pass(kj::Duration time) { timer.afterDelay(time).wait(io.waitScope); }
  // Lets the loop run until it holds, at most 10 s.
  template <class Condition>
  bool until(Condition&& condition) {
    for (int turn = 0; turn < 2000 && !condition(); ++turn) pass(5 * kj::MILLISECONDS);
    return condition();
  }

  kj::AsyncIoContext io;
  kj::Timer& timer;

 private:
  Orders orders_;
  Reports reports_;
  ModelText text_;
  ModelInfo info_;
  ServerLimits limits_;

 public:
  Dispatcher dispatcher;

 private:
  Service service_;
  kj::Own<Connections> connections_;
  kj::Promise<void> running_;
  std::thread engine_;
};

// One client connection.
class Caller {
 public:
  explicit Caller(ServedModel& served) : stream_(served.connect_raw()), rpc_(*stream_) {}
  rpc::Engine::Client engine() { return rpc_.bootstrap().castAs<rpc::Engine>(); }

 private:
  kj::Own<kj::AsyncIoStream> stream_;
  capnp::TwoPartyClient rpc_;
};

// What a sink was given.
struct Received {
  Growth all;
  int pushes = 0;
  bool done = false;
};

class Collector final : public rpc::Sink::Server {
 public:
  // on_push: answers each push; none: at once.
  using OnPush = std::function<kj::Promise<void>(Received&)>;
  explicit Collector(Received& received, OnPush on_push = {}) : received_(received), on_push_(std::move(on_push)) {}

 private:
  kj::Promise<void> push(PushContext context) override {
    const auto piece = context.getParams().getPiece();
    EXPECT_FALSE(received_.done);
    ++received_.pushes;
    received_.all.add({values_of(piece.getTokens()), piece.getText().cStr(), read_logprobs(piece.getLogprobs())});
    return on_push_ ? on_push_(received_) : kj::READY_NOW;
  }
  kj::Promise<void> done(DoneContext) override {
    received_.done = true;
    return kj::READY_NOW;
  }

  Received& received_;
  OnPush on_push_;
};

using Answer = capnp::Response<rpc::Engine::GenerateResults>;

// A call with a sink; the request's prompt are tokens.
inline kj::Promise<Answer> ask(rpc::Engine::Client engine, const Request& request, Received& received,
                               Collector::OnPush on_push = {}, uint32_t deadline_ms = 0) {
  auto call = engine.generateRequest();
  auto out = call.initRequest();
  write_sampling(request.sampling, out.initSampling());
  write_tokens(request.prompt, out.initPrompt().initTokens(uint(request.prompt.size())));
  out.setDeadlineMs(deadline_ms);
  call.setSink(kj::heap<Collector>(received, std::move(on_push)));
  return call.send();
}

// Requests that differ in everything that matters, and never end early.
inline Request some_request(int number, int max_tokens = 24) {
  Request request;
  request.id = std::to_string(number);
  for (int token = 0; token < 3 + 5 * number; ++token) request.prompt.push_back(100 + 13 * token + number);
  request.sampling.temperature = number % 2 ? 0.9f : 0.0f;
  request.sampling.seed = uint64_t(number);
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

// Each alone, by the scheduler of one rank and nothing else.
inline std::map<std::string, Completion> alone(const std::vector<Request>& requests) {
  std::map<std::string, Completion> completions;
  const Tokenizer tokenizer = Tokenizer::open(embedded_model());
  with_engine(embedded_model(), 1, {}, [&](Engine& engine, Communicator& communicator) {
    SchedulerOptions options;
    options.max_batch = 1;
    Scheduler scheduler(engine, communicator, tokenizer, options);
    for (const Request& request : requests)
      scheduler.submit(request, [&](Completion completion) { completions[completion.id] = std::move(completion); });
    while (scheduler.step()) {
    }
  });
  return completions;
}

}  // namespace pleat::test
