#pragma once
// Replicas made of a rule instead of a model, on pipes, with a clock that only moves when it is told: whole lives of a
// router in milliseconds, the same every time. Their faults are chosen.
#include <capnp/rpc-twoparty.h>
#include <gtest/gtest.h>
#include <kj/async-io.h>
#include <kj/timer.h>
#include <unistd.h>

#include <map>

#include "cluster/messages.h"
#include "cluster/refusal.h"
#include "cluster/router/session.h"

namespace pleat::test {

// The token after so many others of a text with this seed.
inline int32_t ruled_token(uint64_t seed, size_t position) { return int32_t((seed * 31 + position * 17) % 1000); }
inline std::string ruled_text(uint64_t seed, size_t tokens) {
  std::string text;
  for (size_t i = 0; i < tokens; ++i) text += ' ' + std::to_string(ruled_token(seed, i));
  return text;
}

struct FakeReplica {
  // What is wrong with it.
  std::string identity = "one";
  bool draining = false, silent = false;      // silent: it answers nothing
  bool stuck = false;                         // stats stand still although it has requests
  size_t piece_tokens = 1;                    // of each piece of a text
  size_t ends_after = SIZE_MAX;               // tokens of a text, where it may have more
  size_t stops_after = SIZE_MAX;              // then it is quiet
  size_t dies_after = SIZE_MAX;               // then its connections are cut
  std::optional<Refusal> refuses;             // every request
  uint32_t takes = UINT32_MAX;                // requests at a time; others find its queue full
  kj::Duration pace = 10 * kj::MILLISECONDS;  // a token
  uint32_t queue_requests = 0;                // that it says it takes, and their tokens; 0: it does not say
  uint32_t queue_requests_of_one = 0;         // client
  uint64_t queue_tokens = 0;

  // What it has seen.
  int connections = 0, requests = 0;
  uint32_t running = 0, unread = 0;  // texts; those whose last piece has not been taken
  uint64_t generated = 0;
  std::vector<size_t> written;  // tokens that its requests brought with them
  int64_t clock = 0;            // of the last one
};

class FakeEngine final : public rpc::Engine::Server {
 public:
  FakeEngine(kj::Timer& timer, FakeReplica& replica, std::function<void()> cut)
      : timer_(timer), replica_(replica), cut_(std::move(cut)) {}

 private:
  kj::Promise<void> info(InfoContext context) override {
    if (replica_.silent) return kj::NEVER_DONE;
    auto info = context.getResults().initInfo();
    info.setModel("fake");
    info.setIdentity(replica_.identity.c_str());
    info.initBlueprint().setMaxPositions(512);
    auto limits = info.initLimits();
    limits.setMessageBytes(1 << 20);
    limits.setRequests(replica_.queue_requests);
    limits.setRequestsPerConnection(replica_.queue_requests_of_one);
    limits.setTokens(replica_.queue_tokens);
    return kj::READY_NOW;
  }
  kj::Promise<void> stats(StatsContext context) override {
    if (replica_.silent) return kj::NEVER_DONE;
    auto stats = context.getResults().initStats();
    stats.setDraining(replica_.draining);
    stats.setRunning(replica_.running - replica_.unread);
    stats.setGeneratedTokens(replica_.stuck ? 0 : replica_.generated);
    stats.setPreemptions(2);
    stats.setFoldedTokens(10);
    stats.setStepSeconds(4);
    stats.setCollectiveSeconds(1);
    auto layers = stats.initLayers(2);
    layers[1].setNeurons(50);
    layers[1].setExact(100);
    layers[1].setRecallNeeded(40);
    layers[1].setRecallFound(30);
    return kj::READY_NOW;
  }
  kj::Promise<void> generate(GenerateContext context) override {
    context.allowCancellation();
    ++replica_.requests;
    if (replica_.refuses) {
      replica_.refuses->write(context.getResults().initResult().initError());
      return kj::READY_NOW;
    }
    if (replica_.running >= replica_.takes) {
      Refusal(rpc::Error::Code::QUEUE_FULL, "full", 500).write(context.getResults().initResult().initError());
      return kj::READY_NOW;
    }
    const auto request = context.getParams().getRequest();
    replica_.written.push_back(request.getWritten().size());
    replica_.clock = request.getClock();
    for (uint32_t i = 0; i < request.getWritten().size(); ++i)
      EXPECT_EQ(request.getWritten()[i], ruled_token(request.getSampling().getSeed(), i));
    ++replica_.running;
    auto text = write(context, request.getWritten().size());
    return text.attach(kj::defer([this] { --replica_.running; }));
  }
  kj::Promise<void> write(GenerateContext context, size_t at) {
    const auto sampling = context.getParams().getRequest().getSampling();
    if (at == sampling.getMaxTokens() || at == replica_.ends_after) return end(context, at);
    if (at >= replica_.stops_after || replica_.silent) return kj::NEVER_DONE;
    if (at >= replica_.dies_after) return cut_(), kj::NEVER_DONE;
    const size_t next = std::min<size_t>(at + replica_.piece_tokens, sampling.getMaxTokens());
    return timer_.afterDelay(replica_.pace)
        .then([this, context, at, next, sampling]() mutable {
          auto push = context.getParams().getSink().pushRequest();
          auto piece = push.initPiece();
          auto tokens = piece.initTokens(uint32_t(next - at));
          std::string text;
          for (uint32_t i = 0; i < tokens.size(); ++i) {
            tokens.set(i, ruled_token(sampling.getSeed(), at + i));
            text += ' ' + std::to_string(tokens[i]);
          }
          piece.setText(text.c_str());
          ++replica_.unread;
          return push.send();
        })
        .then([this, context, at, next]() mutable {
          --replica_.unread;
          replica_.generated += next - at;
          return write(context, next);
        });
  }
  kj::Promise<void> end(GenerateContext context, size_t tokens) {
    ++replica_.unread;
    return context.getParams().getSink().doneRequest().send().then([this, context, tokens](auto&&) mutable {
      --replica_.unread;
      auto completion = context.getResults().initResult().initOk();
      completion.setFinishReason(rpc::FinishReason::LENGTH);
      completion.setPromptTokens(3);
      completion.setCompletionTokens(uint32_t(tokens));
    });
  }

  kj::Timer& timer_;
  FakeReplica& replica_;
  std::function<void()> cut_;
};

// Replicas by address, and the time.
class FakeWorld {
 public:
  FakeWorld() : wait_scope(loop_), timer(kj::origin<kj::TimePoint>()), tasks_(ignore_) {}

  FakeReplica& operator[](const std::string& address) { return replicas_[address]; }

  Connect connect() {
    return [this](const std::string& address) -> kj::Promise<kj::Own<kj::AsyncIoStream>> {
      const auto found = replicas_.find(address);
      if (found == replicas_.end()) return KJ_EXCEPTION(DISCONNECTED, "nobody listens there");
      ++found->second.connections;
      auto pipe = kj::newTwoWayPipe();
      serve(found->second, address, kj::mv(pipe.ends[0]));
      return kj::mv(pipe.ends[1]);
    };
  }
  // As a SIGKILL does.
  void kill(const std::string& address) {
    auto& cuts = cuts_[address];
    for (auto& cut : cuts) cut->fulfill();
    cuts.clear();
  }

  void pass(kj::Duration time) {
    for (const kj::TimePoint end = timer.now() + time; timer.now() < end;) {
      wait_scope.poll();
      timer.advanceTo(std::min(end, timer.now() + 1 * kj::MILLISECONDS));
    }
    wait_scope.poll();
  }
  // Lets time pass until it is ready, at most ten minutes; then half a minute of real time, for work beside the loop.
  template <class T>
  T wait(kj::Promise<T> promise) {
    for (int ms = 0; ms < 630'000 && !promise.poll(wait_scope); ++ms) {
      if (ms >= 600'000) usleep(1000);
      pass(1 * kj::MILLISECONDS);
    }
    if (!promise.poll(wait_scope)) throw std::runtime_error("it is not ready after ten minutes");
    return promise.wait(wait_scope);
  }

 private:
  void serve(FakeReplica& replica, const std::string& address, kj::Own<kj::AsyncIoStream> stream) {
    auto cut = kj::newPromiseAndFulfiller<void>();
    cuts_[address].push_back(kj::mv(cut.fulfiller));
    auto network = kj::heap<capnp::TwoPartyVatNetwork>(*stream, capnp::rpc::twoparty::Side::SERVER);
    auto rpc = kj::heap(
        capnp::makeRpcServer(*network, kj::heap<FakeEngine>(timer, replica, [this, address] { kill(address); })));
    auto over = network->onDisconnect().exclusiveJoin(kj::mv(cut.promise));
    tasks_.add(over.attach(kj::mv(rpc)).attach(kj::mv(network)).attach(kj::mv(stream)));
  }
  struct Ignore final : kj::TaskSet::ErrorHandler {
    void taskFailed(kj::Exception&&) override {}
  };

  kj::EventLoop loop_;
  std::map<std::string, FakeReplica> replicas_;
  std::map<std::string, std::vector<kj::Own<kj::PromiseFulfiller<void>>>> cuts_;

 public:
  kj::WaitScope wait_scope;
  kj::TimerImpl timer;

 private:
  Ignore ignore_;
  kj::TaskSet tasks_;
};

}  // namespace pleat::test
