#pragma once
// Where an event loop has work done that takes long: that waits for a disk, or reads what is large.
#include <kj/async.h>
#include <kj/function.h>
#include <kj/mutex.h>
#include <kj/thread.h>

namespace pleat {

class WorkThread final : private kj::TaskSet::ErrorHandler {
 public:
  WorkThread();
  ~WorkThread() noexcept(false);  // waits for what has begun
  KJ_DISALLOW_COPY(WorkThread);

  // Runs `work` there, one after the other; fails as it does. The loop waits for nothing where the promise is dropped:
  // work that has begun goes on to its end, so that it holds all that it uses, other work is dropped too.
  kj::Promise<void> run(kj::Function<void()> work);

 private:
  void taskFailed(kj::Exception&&) override {}  // whoever asked for the work is told

  kj::MutexGuarded<kj::Maybe<kj::Own<const kj::Executor>>> executor_;  // none before the thread runs
  kj::MutexGuarded<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> stop_;
  kj::Thread thread_;
  kj::Own<kj::TaskSet> under_way_;
};

}  // namespace pleat
