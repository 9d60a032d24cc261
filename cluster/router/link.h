#pragma once
// A connection to a replica.
#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <functional>
#include <string>

#include "cluster/pleat.capnp.h"
#include "cluster/read_ahead.h"

namespace pleat {

// How a router reaches an address: over a socket, or through what a test or a simulator puts in its place.
using Connect = std::function<kj::Promise<kj::Own<kj::AsyncIoStream>>(const std::string& address)>;

class Link {
 public:
  explicit Link(kj::Own<kj::AsyncIoStream> stream)
      : stream_(kj::mv(stream)), rpc_(stream_), engine_(rpc_.bootstrap().castAs<rpc::Engine>()) {}

  // Its calls fail once the other side is gone.
  rpc::Engine::Client engine() { return engine_; }
  // Fails when the other side is gone; never ready otherwise.
  kj::Promise<void> lost() {
    return rpc_.onDisconnect().then(
        []() -> kj::Promise<void> { return KJ_EXCEPTION(DISCONNECTED, "the connection was closed"); });
  }

 private:
  ReadAhead stream_;
  capnp::TwoPartyClient rpc_;
  rpc::Engine::Client engine_;  // one for all: asking a lost connection for another ends the program (0.9.2)
};

}  // namespace pleat
