#pragma once
// Where a program's clients come in, and what befalls the network there.
#include <functional>
#include <string>

#include "tests/cluster/simulation/cable.h"

namespace pleat::test {

class Port {
 public:
  using Accept = std::function<void(kj::Own<kj::AsyncIoStream> stream, const std::string& from)>;

  // whose: in the record.
  Port(kj::Timer& timer, Record& record, std::string whose)
      : timer_(timer), record_(record), whose_(std::move(whose)) {}
  KJ_DISALLOW_COPY(Port);

  void open(Accept accept);
  // Its program is no more. `told`: its system lives and says so; otherwise nobody hears of it.
  void close(bool told);

  // A client's end of a new connection. Fails where nothing listens; never ready where nothing answers.
  kj::Promise<kj::Own<kj::AsyncIoStream>> connect(const std::shared_ptr<Cable>& cable, const std::string& from = "");

  void stall(kj::TimePoint until);
  void reset();
  // One direction of each connection is dead from now on.
  void half_open(bool there);

 private:
  kj::Timer& timer_;
  Record& record_;
  const std::string whose_;
  Accept accept_;  // null: nothing listens
  bool unreachable_ = false;
  kj::TimePoint stalled_until_ = kj::origin<kj::TimePoint>();
  Cables cables_;
};

}  // namespace pleat::test
