#include "kernels/thread_team.h"

#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int kSpins = 4000;  // tens to hundreds of microseconds: longer than the gap between two ops of a step
constexpr int kYields = 200;  // oversubscribed: the core belongs to whoever has work

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

struct ThreadTeam::State {
  explicit State(bool oversubscribed_) : oversubscribed(oversubscribed_) {}

  const bool oversubscribed;
  void (*work)(void*, int) = nullptr;
  void* context = nullptr;
  bool stopping = false;
  int64_t barriers = 0;
  std::chrono::steady_clock::duration waited{0};  // at them

  // Each on its own cache line: they are written by different threads.
  alignas(64) std::atomic<int> round{0};       // one more publishes work, context and stopping
  alignas(64) std::atomic<int> unfinished{0};  // members still working in this round, without the caller
  alignas(64) std::atomic<int64_t> next{0};
  std::vector<std::thread> members;

  // Returns the first value of `flag` that is not `old`.
  int wait_for_change(std::atomic<int>& flag, int old) const {
    for (int i = 0, tries = oversubscribed ? kYields : kSpins; i < tries; ++i) {
      const int value = flag.load(std::memory_order_acquire);
      if (value != old) return value;
      if (oversubscribed) {
        std::this_thread::yield();
      } else {
        pause();
      }
    }
    flag.wait(old, std::memory_order_acquire);
    return flag.load(std::memory_order_acquire);
  }

  void publish() {
    unfinished.store(int(members.size()), std::memory_order_relaxed);
    round.fetch_add(1, std::memory_order_release);
    round.notify_all();
  }

  void stop() {
    stopping = true;
    publish();
    for (std::thread& member : members) member.join();
  }

  void serve(int member) {
    for (int seen = 0;;) {
      seen = wait_for_change(round, seen);
      if (stopping) return;
      work(context, member);
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
    }
  }
};

ThreadTeam::ThreadTeam(int threads, bool oversubscribed) : state_(std::make_unique<State>(oversubscribed)) {
  PLEAT_REQUIRE(threads >= 1, "a thread team needs at least one thread, not ", threads);
  state_->members.reserve(threads - 1);
  try {
    for (int member = 1; member < threads; ++member)
      state_->members.emplace_back([state = state_.get(), member] { state->serve(member); });
  } catch (const std::system_error& error) {
    state_->stop();
    throw Error(ErrorKind::failed, concat("cannot start ", threads, " threads: ", error.code().message()));
  }
}

ThreadTeam::~ThreadTeam() { state_->stop(); }

int ThreadTeam::threads() const { return int(state_->members.size()) + 1; }

void ThreadTeam::run_erased(void (*work)(void*, int), void* context) {
  State& state = *state_;
  if (state.members.empty()) return work(context, 0);
  state.work = work;
  state.context = context;
  state.publish();
  work(context, 0);
  ++state.barriers;
  int left = state.unfinished.load(std::memory_order_acquire);
  if (left == 0) return;
  const auto start = std::chrono::steady_clock::now();
  while (left != 0) left = state.wait_for_change(state.unfinished, left);
  state.waited += std::chrono::steady_clock::now() - start;
}

int64_t ThreadTeam::barriers() const { return state_->barriers; }
double ThreadTeam::barrier_seconds() const { return std::chrono::duration<double>(state_->waited).count(); }

void ThreadTeam::reset_next() { state_->next.store(0, std::memory_order_relaxed); }
int64_t ThreadTeam::take_next() { return state_->next.fetch_add(1, std::memory_order_relaxed); }

}  // namespace pleat
