// Compiled without the sanitizers' instrumentation (CMakeLists.txt): what orders threads in CUDA is told to them here.
#include "kernels/emulator/block.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include "kernels/emulator/guarded_memory.h"
#include "kernels/emulator/running_grids.h"

#ifdef PLEAT_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace pleat::emulator {
namespace {

thread_local constinit Thread* running = nullptr;
thread_local constinit unsigned schedule_seed = 0;

thread_local constinit uint64_t blocks_so_far = 0;

void happens_before([[maybe_unused]] void* tag) {
#ifdef PLEAT_THREAD_SANITIZER
  __tsan_release(tag);
#endif
}
void happens_after([[maybe_unused]] void* tag) {
#ifdef PLEAT_THREAD_SANITIZER
  __tsan_acquire(tag);
#endif
}

void on_fault(int, siginfo_t* info, void*) {
  if (running == nullptr) {
    signal(SIGSEGV, SIG_DFL);
    return;  // not a kernel's: happens again, and ends the process
  }
  char what[96];
  std::snprintf(what, sizeof what, "access outside of every allocation, at %p", info->si_addr);
  fail(what, running->block->grid().launched);
}

// A kernel's stack may be what overflowed.
class SignalStack {
 public:
  SignalStack() : memory_(kBytes) {
    stack_t stack{};
    stack.ss_sp = memory_.data();
    stack.ss_size = kBytes;
    sigaltstack(&stack, &before_);
  }
  ~SignalStack() { sigaltstack(&before_, nullptr); }

 private:
  static constexpr size_t kBytes = 256 << 10;
  std::vector<char> memory_;
  stack_t before_{};
};

void catch_faults() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
  });
  static thread_local SignalStack stack;
}

uint3 index_of(uint64_t number, dim3 extent) {
  return {unsigned(number % extent.x), unsigned(number / extent.x % extent.y),
          unsigned(number / (uint64_t(extent.x) * extent.y))};
}

uint64_t count_of(dim3 extent) { return uint64_t(extent.x) * extent.y * extent.z; }

const char* file_name(const Place& place) {
  const char* const slash = std::strrchr(place.file, '/');
  return slash != nullptr ? slash + 1 : place.file;
}

}  // namespace

void fail(const char* what, Place place) {
  std::fprintf(stderr, "emulator: %s:%u: %s", file_name(place), place.line, what);
  if (const Thread* const thread = running) {
    const Place& launched = thread->block->grid().launched;
    const uint3 block = thread->block->index();
    std::fprintf(stderr, " (launched at %s:%u, block %u,%u,%u, thread %u,%u,%u)", file_name(launched), launched.line,
                 block.x, block.y, block.z, thread->index.x, thread->index.y, thread->index.z);
  }
  std::fputc('\n', stderr);
  std::fflush(stderr);
  std::abort();
}

void set_schedule(unsigned seed) { schedule_seed = seed; }

void* shared_memory(uint64_t& owner, unsigned char* memory, size_t bytes) {
  Block& block = *Block::current().block;
  if (owner != block.serial()) {
    // Not memset: the thread sanitizer would take it for an access by this thread.
    for (volatile unsigned char* at = memory; at < memory + bytes; ++at) *at = 0xff;
    owner = block.serial();
    block.guard_shared(memory, bytes);
  }
  return memory + kSharedGuard;
}

Thread& Block::current() {
  if (running == nullptr) fail("device code is called outside of a kernel");
  return *running;
}

Block::Block(const Grid& grid, uint3 index)
    : grid_(grid),
      index_(index),
      serial_(++blocks_so_far),
      threads_(count_of(grid.threads)),
      ready_(threads_.size()),
      live_(unsigned(threads_.size())),
      random_(schedule_seed * 0x9E3779B97F4A7C15ull + 1),
      dynamic_shared_(grid.dynamic_shared > 0 ? allocate_guarded(grid.dynamic_shared) : nullptr, free_guarded),
      shared_bytes_(grid.dynamic_shared),
      warp_syncs_(threads_.size()),
      warps_((threads_.size() + 31) / 32) {
  if (const size_t lanes = threads_.size() % 32; lanes > 0) warps_.back().ended = ~0u << lanes;
}

void Block::guard_shared(const unsigned char* memory, size_t bytes) {
  shared_.push_back({memory, bytes});
  shared_bytes_ += bytes - 2 * kSharedGuard;
  const size_t most = grid_.has_all_shared ? size_t(most_shared()) : 48u << 10;
  if (shared_bytes_ <= most) return;
  char what[160];
  std::snprintf(what, sizeof what, "%zu bytes of shared memory, of which %zu dynamic, in a block that may have %zu",
                shared_bytes_, grid_.dynamic_shared, most);
  fail(what, grid_.launched);
}

void Block::run(const std::function<void()>& body) {
  catch_faults();
  happens_before(&begin_order_);
  for (unsigned number = 0; number < threads_.size(); ++number) {
    Thread& thread = threads_[number];
    thread.number = number;
    thread.index = index_of(number, grid_.threads);
    thread.block = this;
    thread.fiber = std::make_unique<Fiber>([this, &thread, &body] { run_thread(thread, body); });
    make_ready(thread);
  }
  while (live_ > 0) {
    Thread* const thread = next_ready();
    if (thread == nullptr) report_deadlock();
    running = thread;
    thread->fiber->resume();
    running = nullptr;
    if (thread->state == Thread::State::ended) thread->fiber.reset();
  }
  happens_after(&end_order_);
  check_shared();
  note_progress();
}

void Block::check_shared() const {
  for (const auto& [memory, bytes] : shared_)
    for (size_t i = 0; i < kSharedGuard; ++i) {
      const bool before = memory[i] != 0xff;
      if (!before && memory[bytes - kSharedGuard + i] == 0xff) continue;
      char what[160];
      std::snprintf(what, sizeof what, "block %u,%u,%u wrote %s a shared array of %zu bytes", index_.x, index_.y,
                    index_.z, before ? "before" : "past", bytes - 2 * kSharedGuard);
      fail(what, grid_.launched);
    }
}

void Block::run_thread(Thread& thread, const std::function<void()>& body) {
  happens_after(&begin_order_);
  body();
  happens_before(&end_order_);
  end(thread);
}

unsigned& Block::ready(size_t place) {
  const size_t at = first_ready_ + place;
  return ready_[at < ready_.size() ? at : at - ready_.size()];
}

Thread* Block::next_ready() {
  if (ready_count_ == 0) return nullptr;
  if (schedule_seed != 0) {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    std::swap(ready(0), ready(random_ % ready_count_));
  }
  Thread& next = threads_[ready(0)];
  if (++first_ready_ == ready_.size()) first_ready_ = 0;
  --ready_count_;
  return &next;
}

void Block::make_ready(Thread& thread) {
  thread.state = Thread::State::ready;
  ready(ready_count_++) = thread.number;
}

void Block::wait(Thread& thread) {
  if (thread.state == Thread::State::ready) return;
  thread.fiber->suspend();
}

void Block::yield() {
  Thread& me = current();
  // All that is left waits for other blocks, of which there may be more than cores.
  if (++yields_ > ready_count_) {
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    yields_ = 0;
  }
  make_ready(me);
  me.fiber->suspend();
}

void Block::barrier(Place place) {
  Thread& me = current();
  char* const order = &barrier_order_[barriers_ % 2];
  happens_before(order);
  me.state = Thread::State::at_barrier;
  me.place = place;
  ++at_barrier_;
  try_barrier();
  wait(me);
  happens_after(order);
}

// All threads that have not ended have arrived: they go on, the one that runs at once.
void Block::try_barrier() {
  if (live_ == 0 || at_barrier_ < live_) return;
  const Thread* first = nullptr;
  for (Thread& thread : threads_) {
    if (thread.state != Thread::State::at_barrier) continue;
    if (first == nullptr) first = &thread;
    if (thread.place.line != first->place.line || std::strcmp(thread.place.file, first->place.file) != 0) {
      char what[160];
      std::snprintf(what, sizeof what, "divergent barrier: thread %u waits here, thread %u at %s:%u", thread.number,
                    first->number, file_name(first->place), first->place.line);
      fail(what, thread.place);
    }
  }
  at_barrier_ = 0;
  ++barriers_;
  for (Thread& thread : threads_) {
    if (thread.state != Thread::State::at_barrier) continue;
    if (&thread == running)
      thread.state = Thread::State::ready;
    else
      make_ready(thread);
  }
}

void Block::warp_together(WarpWork work, void* mine, Place place) {
  warp_op(WarpOp::together, ~0u, reinterpret_cast<uint64_t>(mine), 0, place, work);
}

uint64_t Block::warp_op(WarpOp op, unsigned mask, uint64_t value, unsigned source, Place place, WarpWork work) {
  Thread& me = current();
  if ((mask >> me.lane() & 1) == 0) fail("a warp operation's mask leaves out the lane that calls it", place);
  char* const order = &warps_[me.warp()].order[warp_syncs_[me.number] % 2];
  const bool orders_memory = op == WarpOp::synchronise;
  if (orders_memory) {
    ++warp_syncs_[me.number];
    happens_before(order);
  }
  me.state = Thread::State::in_warp_op;
  me.place = place;
  me.op = op;
  me.mask = mask;
  me.value = value;
  me.source = source;
  me.work = work;
  warps_[me.warp()].waiting |= 1u << me.lane();
  try_warp_op(me);
  wait(me);
  if (orders_memory) happens_after(order);
  return me.value;
}

// Ends the operation of `thread` if all lanes of its mask have come.
void Block::try_warp_op(Thread& thread) {
  Warp& warp = warps_[thread.warp()];
  if ((thread.mask & warp.ended) != 0) fail("a warp operation's mask names a lane that has ended", thread.place);
  if ((thread.mask & ~warp.waiting) != 0) return;
  warp.waiting &= ~thread.mask;
  Thread* const lanes = &threads_[thread.warp() * 32];
  unsigned votes = 0;
  WarpOffers offered{};
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((thread.mask >> lane & 1) == 0) continue;
    const Thread& other = lanes[lane];
    if (other.mask != thread.mask || other.op != thread.op || other.work != thread.work) {
      char what[160];
      std::snprintf(what, sizeof what,
                    "lanes %u and %u meet in different warp operations or with different masks, the other at %s:%u",
                    thread.lane(), other.lane(), file_name(other.place), other.place.line);
      fail(what, thread.place);
    }
    offered[lane] = other.value;
    votes |= unsigned(other.value != 0) << lane;
  }
  if (thread.op == WarpOp::together) thread.work(offered);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((thread.mask >> lane & 1) == 0) continue;
    Thread& other = lanes[lane];
    if (other.op == WarpOp::shuffle) {
      if ((other.mask >> other.source & 1) == 0) fail("a shuffle reads from a lane outside of its mask", other.place);
      other.value = offered[other.source];
    } else {
      other.value = votes;
    }
    if (&other == running)
      other.state = Thread::State::ready;
    else
      make_ready(other);
  }
}

void Block::end(Thread& thread) {
  if (grid_.overlaps && !thread.waited_for_previous)
    fail("a thread never waits for the grid before its own", grid_.launched);
  thread.state = Thread::State::ended;
  --live_;
  warps_[thread.warp()].ended |= 1u << thread.lane();
  const unsigned first = thread.warp() * 32;
  for (unsigned lane = 0; lane < 32 && first + lane < threads_.size(); ++lane) {
    const Thread& other = threads_[first + lane];
    if (other.state == Thread::State::in_warp_op && (other.mask >> thread.lane() & 1) != 0)
      fail("a warp operation's mask names a lane that has ended", other.place);
  }
  try_barrier();
}

void Block::report_deadlock() {
  const auto waits = [&](Thread::State state) {
    return std::find_if(threads_.begin(), threads_.end(), [&](const Thread& t) { return t.state == state; });
  };
  const auto barrier = waits(Thread::State::at_barrier), warp = waits(Thread::State::in_warp_op);
  running = &*(barrier != threads_.end() ? barrier : warp);
  if (barrier == threads_.end()) fail("a warp operation whose other lanes never come", warp->place);
  char what[160];
  std::snprintf(what, sizeof what, "divergent barrier: thread %u waits here, thread %u for its warp at %s:%u",
                barrier->number, warp->number, file_name(warp->place), warp->place.line);
  fail(what, barrier->place);
}

int most_shared() {
  static const int bytes = [] {
    const char* const kib = std::getenv("PLEAT_EMULATED_SHARED_KIB");
    return (kib != nullptr ? std::atoi(kib) : 163) << 10;
  }();
  return bytes;
}

bool can_launch(const Grid& grid) {
  const uint64_t threads = count_of(grid.threads);
  return count_of(grid.blocks) > 0 && grid.blocks.y <= 65535 && grid.blocks.z <= 65535 && threads > 0 &&
         threads <= 1024 && grid.threads.z <= 64 && grid.dynamic_shared <= size_t(most_shared());
}

void run_grid(const Grid& grid, const std::function<void()>& body) {
  const RunningGrid running(grid.launched);
  const uint64_t blocks = count_of(grid.blocks);
  if (!grid.cooperative) {
    for (uint64_t i = 0; i < blocks; ++i) Block(grid, index_of(i, grid.blocks)).run(body);
    return;
  }
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < blocks; ++i)
    threads.emplace_back([&, i, seed = schedule_seed] {
      schedule_seed = seed;
      Block(grid, index_of(i, grid.blocks)).run(body);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace pleat::emulator
