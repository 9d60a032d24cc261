#pragma once
// Someone who asks one server and no router, as `pleat ask` does, and reads nothing before the end: for a text, or for
// how likely the model finds given ones.
#include <functional>
#include <memory>
#include <optional>

#include <capnp/rpc-twoparty.h>

#include "cluster/pleat.capnp.h"
#include "tests/cluster/simulation/random.h"
#include "tests/cluster/simulation/record.h"
#include "tests/cluster/simulation/toy_model.h"

namespace pleat::test {

struct CallerPlan {
  int number = 0, replica = 0;
  kj::TimePoint arrives = kj::origin<kj::TimePoint>();
  Request request;
  std::vector<std::vector<int32_t>> given;  // what is to be scored; none: a text is asked for
  std::optional<kj::Duration> leaves_after;
  bool meets_faults = true;
  bool fits = true;  // there could be room for it
};

class SimulatedCaller {
 public:
  using Connect = std::function<kj::Promise<kj::Own<kj::AsyncIoStream>>()>;
  SimulatedCaller(kj::Timer& timer, Record& record, CallerPlan plan, Connect connect);

  bool over() const { return over_; }
  bool answered() const { return answered_; }

 private:
  struct Connection {
    explicit Connection(kj::Own<kj::AsyncIoStream> stream_)
        : stream(kj::mv(stream_)), rpc(*stream), engine(rpc.bootstrap().castAs<rpc::Engine>()) {}
    kj::Own<kj::AsyncIoStream> stream;
    capnp::TwoPartyClient rpc;
    rpc::Engine::Client engine;
  };

  kj::Promise<void> call();
  kj::Promise<void> ask_for_text();
  kj::Promise<void> ask_for_scores();
  void check(rpc::Completion::Reader text);
  void check(rpc::Scores::Reader scores);
  void refused(rpc::Error::Reader error);
  void end(const char* how);

  kj::Timer& timer_;
  Record& record_;
  const CallerPlan plan_;
  const Connect connect_;
  bool over_ = false, answered_ = false;
  std::unique_ptr<Connection> connection_;
  kj::Promise<void> running_, leaving_ = kj::READY_NOW;
};

}  // namespace pleat::test
