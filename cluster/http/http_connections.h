#pragma once
// The clients of an HTTP door, each on a connection of its own.
#include "cluster/http/http_connection.h"

namespace pleat {

class HttpConnections final : private kj::TaskSet::ErrorHandler {
 public:
  explicit HttpConnections(Gateway& gateway) : gateway_(gateway), tasks_(*this) {}

  // There are as many as may be, with those that are still coming.
  bool full(int64_t coming = 0) const { return gateway_.metrics.connections + coming >= gateway_.limits.connections; }
  // Answers the client (an address without the port), or drops it where they are as many as may be.
  void add(kj::Own<kj::AsyncIoStream> stream, std::string client);

 private:
  void taskFailed(kj::Exception&&) override {}  // a client's connection, and that is all

  Gateway& gateway_;
  kj::TaskSet tasks_;
};

}  // namespace pleat
