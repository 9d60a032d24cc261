#include "cluster/http/disk_thread.h"

#include <kj/debug.h>

namespace pleat {

DiskThread::DiskThread()
    : thread_([this] {
        kj::EventLoop loop;
        kj::WaitScope scope(loop);
        auto stop = kj::newPromiseAndCrossThreadFulfiller<void>();
        *stop_.lockExclusive() = kj::mv(stop.fulfiller);
        *executor_.lockExclusive() = kj::getCurrentThreadExecutor().addRef();
        stop.promise.wait(scope);
      }) {
  executor_.when([](const auto& executor) { return executor != nullptr; }, [](const auto&) {});
}

DiskThread::~DiskThread() noexcept(false) { (*stop_.lockExclusive())->fulfill(); }

kj::Promise<void> DiskThread::run(kj::Function<void()> work) {
  const auto lock = executor_.lockShared();
  return KJ_ASSERT_NONNULL(*lock)->executeAsync(kj::mv(work));
}

}  // namespace pleat
