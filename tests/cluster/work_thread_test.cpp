// Work beside an event loop, and promises with an end.
#include <gtest/gtest.h>
#include <kj/async-io.h>

#include <atomic>
#include <memory>

#include "cluster/http/turns.h"
#include "cluster/router/waiting.h"
#include "cluster/work_thread.h"

namespace pleat::test {
namespace {

struct Gate {
  std::atomic<bool> begun = false, open = false, ended = false;
  // Work that ends when the gate is opened.
  static kj::Function<void()> work(const std::shared_ptr<Gate>& gate) {
    return [gate] {
      gate->begun = true;
      gate->begun.notify_all();
      gate->open.wait(false);
      gate->ended = true;
    };
  }
};

TEST(WorkThread, WhoeverWantsWorkNoMoreWaitsForNothing) {
  auto io = kj::setupAsyncIo();
  const auto first = std::make_shared<Gate>(), second = std::make_shared<Gate>();
  std::atomic<int> done = 0;
  {
    WorkThread thread;
    {
      auto begun = thread.run(Gate::work(first));
      auto waits = thread.run(Gate::work(second));
      first->begun.wait(false);
      EXPECT_EQ(second.use_count(), 2);
    }
    EXPECT_FALSE(first->ended) << "nothing has waited for it";
    EXPECT_EQ(second.use_count(), 1) << "what has not begun is dropped, with all that it holds";
    auto last = thread.run([&done] { ++done; });
    EXPECT_FALSE(last.poll(io.waitScope)) << "one after the other";
    first->open = true;
    first->open.notify_all();
    last.wait(io.waitScope);
  }
  EXPECT_TRUE(first->ended);
  EXPECT_FALSE(second->begun);
  EXPECT_EQ(done, 1);
}

TEST(WorkThread, FailsAsItsWorkDoesAndGoesOn) {
  auto io = kj::setupAsyncIo();
  WorkThread thread;
  auto fails = thread.run([] { KJ_FAIL_REQUIRE("no such luck"); });
  auto works = thread.run([] {});
  KJ_IF_MAYBE (fault, kj::runCatchingExceptions([&] { fails.wait(io.waitScope); })) {
    EXPECT_NE(std::string(fault->getDescription().cStr()).find("no such luck"), std::string::npos);
  } else {
    ADD_FAILURE() << "it has not failed";
  }
  works.wait(io.waitScope);
}

TEST(Turns, WhoAsksForMuchWaitsBehindItself) {
  kj::EventLoop loop;
  kj::WaitScope scope(loop);
  Turns turns;
  auto first = turns.take("a").wait(scope);
  auto second = turns.take("a");
  auto third = turns.take("a");
  auto other = turns.take("b");
  EXPECT_FALSE(second.poll(scope));
  EXPECT_TRUE(other.poll(scope)) << "another client's";
  second = nullptr;  // it has left
  first = nullptr;
  ASSERT_TRUE(third.poll(scope));
  {
    const auto last = third.wait(scope);
    EXPECT_FALSE(turns.take("a").poll(scope));
  }
  EXPECT_TRUE(turns.take("a").poll(scope)) << "nobody is before it";
}

TEST(Within, ALoopThatStoodStillSeesWhatCameMeanwhile) {
  kj::EventLoop loop;
  kj::WaitScope scope(loop);
  kj::TimerImpl timer(kj::origin<kj::TimePoint>());
  auto answer = kj::newPromiseAndFulfiller<int>(), never = kj::newPromiseAndFulfiller<int>();
  auto answered = within(timer, 3 * kj::SECONDS, kj::mv(answer.promise), "late");
  auto late = within(timer, 3 * kj::SECONDS, kj::mv(never.promise), "late");
  timer.advanceTo(timer.now() + 10 * kj::SECONDS);  // and then the answer is read
  auto read = kj::evalLater([] {}).then([] {}).then([&] { answer.fulfiller->fulfill(7); }).eagerlyEvaluate(nullptr);
  EXPECT_FALSE(late.poll(scope));
  ASSERT_TRUE(answered.poll(scope));
  EXPECT_EQ(answered.wait(scope), 7);
  timer.advanceTo(timer.now() + 3 * kj::SECONDS);
  ASSERT_TRUE(late.poll(scope));
  EXPECT_THROW(late.wait(scope), kj::Exception);
}

}  // namespace
}  // namespace pleat::test
