#include "cluster/work_thread.h"

#include <kj/debug.h>

#include <memory>

namespace pleat {
namespace {

// Work that whoever comes first takes: the thread to do it, or who wants it no more.
using WorkOrder = kj::MutexGuarded<kj::Maybe<kj::Function<void()>>>;

kj::Maybe<kj::Function<void()>> taken(const WorkOrder& order) {
  auto lock = order.lockExclusive();
  auto work = kj::mv(*lock);
  *lock = nullptr;
  return work;
}

}  // namespace

WorkThread::WorkThread()
    : thread_([this] {
        kj::EventLoop loop;
        kj::WaitScope scope(loop);
        auto stop = kj::newPromiseAndCrossThreadFulfiller<void>();
        *stop_.lockExclusive() = kj::mv(stop.fulfiller);
        *executor_.lockExclusive() = kj::getCurrentThreadExecutor().addRef();
        stop.promise.wait(scope);
      }),
      under_way_(kj::heap<kj::TaskSet>(static_cast<kj::TaskSet::ErrorHandler&>(*this))) {
  executor_.when([](const auto& executor) { return executor != nullptr; }, [](const auto&) {});
}

WorkThread::~WorkThread() noexcept(false) {
  under_way_ = nullptr;
  (*stop_.lockExclusive())->fulfill();
}

kj::Promise<void> WorkThread::run(kj::Function<void()> work) {
  const auto order = std::make_shared<WorkOrder>(kj::mv(work));
  const auto lock = executor_.lockShared();
  auto done = KJ_ASSERT_NONNULL(*lock)
                  ->executeAsync([order] {
                    auto work = taken(*order);
                    KJ_IF_MAYBE (todo, work) (*todo)();
                  })
                  .fork();
  under_way_->add(done.addBranch());
  return done.addBranch().attach(kj::defer([order] { taken(*order); }));
}

}  // namespace pleat
