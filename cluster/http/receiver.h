#pragma once
// Takes bodies of POST /v1/files into the store: an event loop reads them, and a thread that may wait for the disk
// writes them.
#include <kj/async-io.h>
#include <kj/timer.h>

#include <memory>
#include <optional>
#include <string>

#include "cluster/http/file_store.h"
#include "cluster/http/openai_format.h"
#include "cluster/work_thread.h"

namespace pleat {

// A file in the store, or why it is not there.
struct Received {
  StoredFile file;
  std::optional<HttpError> fault;
};

class Receiver final : private kj::TaskSet::ErrorHandler {
 public:
  // patience: for 64 KiB of a body to come.
  Receiver(kj::Timer& timer, kj::Duration patience, FileStore& store, WorkThread& disk)
      : timer_(timer), patience_(patience), store_(store), disk_(disk), finishing_(*this) {}

  // Ready once it is in the store, or with why it is not; fails where reading the body does. A file that
  // has come whole is kept even where the promise is dropped then.
  kj::Promise<std::shared_ptr<const Received>> take(const std::string& content_type, const std::string& owner,
                                                    kj::AsyncInputStream& body);

 private:
  struct Upcoming;
  kj::Promise<void> receive(std::shared_ptr<Upcoming> file, kj::AsyncInputStream& body);
  kj::Promise<void> finish(std::shared_ptr<Upcoming> file);
  void taskFailed(kj::Exception&&) override {}  // whoever waits for the file is told

  kj::Timer& timer_;
  const kj::Duration patience_;
  FileStore& store_;
  WorkThread& disk_;
  kj::TaskSet finishing_;
};

}  // namespace pleat
