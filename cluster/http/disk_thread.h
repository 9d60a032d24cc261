#pragma once
// Where an event loop has work done that waits for a disk.
#include <kj/async.h>
#include <kj/function.h>
#include <kj/mutex.h>
#include <kj/thread.h>

namespace pleat {

class DiskThread {
 public:
  DiskThread();
  ~DiskThread() noexcept(false);
  KJ_DISALLOW_COPY(DiskThread);

  // Runs `work` there, one after the other. Dropping the promise waits for what has begun.
  kj::Promise<void> run(kj::Function<void()> work);

 private:
  kj::MutexGuarded<kj::Maybe<kj::Own<const kj::Executor>>> executor_;  // none before the thread runs
  kj::MutexGuarded<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> stop_;
  kj::Thread thread_;
};

}  // namespace pleat
