#pragma once
// The clients of an HTTP door, each on a connection of its own.
#include <map>

#include "cluster/http/http_connection.h"

namespace pleat {

class HttpConnections final : private kj::TaskSet::ErrorHandler {
 public:
  explicit HttpConnections(Gateway& gateway) : gateway_(gateway), tasks_(*this) {}

  // There are as many as may be, or three quarters of that are this client's (an address without the port), so that one
  // can never shut out the others; a unix socket has no others.
  static constexpr const char* kLocal = "local";  // the client of a unix socket
  bool full(const std::string& client) const;
  // Answers the client once its stream is ready, or drops it where they are full.
  void add(kj::Promise<kj::Own<kj::AsyncIoStream>> stream, const std::string& client);

 private:
  class Place;
  void taskFailed(kj::Exception&&) override {}  // a client's connection, and that is all

  Gateway& gateway_;
  int64_t all_ = 0;
  std::map<std::string, int64_t> of_client_;
  kj::TaskSet tasks_;
};

}  // namespace pleat
