#pragma once
// The open connections of a server, each with a service of its own.
#include <kj/async-io.h>

#include "cluster/engine_service.h"

namespace pleat {

class Connections final : private kj::TaskSet::ErrorHandler {
 public:
  explicit Connections(Service& service) : service_(service), tasks_(*this) {}

  // Serves it until the client leaves. More than the limit allows are closed at once; so is one whose client leaves
  // more of its answers unread than the limit, and one without a call for too long.
  void add(kj::Own<kj::AsyncIoStream> stream);
  // Ready when all answers have been handed to the system, or `patience` is over.
  kj::Promise<void> flush(kj::Duration patience);

 private:
  class Connection;
  void taskFailed(kj::Exception&& exception) override;

  Service& service_;
  std::vector<Connection*> open_;
  kj::TaskSet tasks_;
};

}  // namespace pleat
