#pragma once
// One thing at a time of each client, so that who asks for much waits behind itself and nobody else does.
#include <kj/async.h>

#include <deque>
#include <map>
#include <string>

namespace pleat {

class Turns {
 public:
  Turns() = default;
  KJ_DISALLOW_COPY(Turns);

  // A client's, until it is dropped.
  class Turn {
   public:
    Turn(Turns& turns, std::string client) : turns_(turns), client_(std::move(client)) {}
    ~Turn() { turns_.pass_on(client_); }
    KJ_DISALLOW_COPY(Turn);

   private:
    Turns& turns_;
    const std::string client_;
  };
  // In the order in which it is asked for. It must be taken before these turns end.
  kj::Promise<kj::Own<Turn>> take(const std::string& client);

 private:
  void pass_on(const std::string& client);

  // Who waits, of each client that has a turn.
  std::map<std::string, std::deque<kj::Own<kj::PromiseFulfiller<kj::Own<Turn>>>>> waiting_;
};

}  // namespace pleat
