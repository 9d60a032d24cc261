// Compiled without the sanitizers' instrumentation (CMakeLists.txt): it switches the stacks under their feet.
#include "kernels/emulator/fiber.h"

#include <sys/mman.h>

#include <boost/context/fiber.hpp>
#include <new>
#include <vector>

#ifdef PLEAT_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef PLEAT_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace pleat::emulator {
namespace {

constexpr size_t kPage = 4096;
#if defined(PLEAT_ADDRESS_SANITIZER) || defined(PLEAT_THREAD_SANITIZER)
constexpr size_t kStackBytes = 256 << 10;
#else
constexpr size_t kStackBytes = 64 << 10;
#endif

// Stacks of an OS thread, used again; an inaccessible page lies below each.
class StackPool {
 public:
  char* take() {
    if (!free_.empty()) {
      char* const stack = free_.back();
      free_.pop_back();
      return stack;
    }
    void* const memory = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) throw std::bad_alloc();
    return static_cast<char*>(memory) + kPage;
  }
  void give_back(char* stack) {
#ifdef PLEAT_ADDRESS_SANITIZER
    ASAN_UNPOISON_MEMORY_REGION(stack, kStackBytes);
#endif
    free_.push_back(stack);
  }
  ~StackPool() {
    for (char* const stack : free_) munmap(stack - kPage, kStackBytes + kPage);
  }

 private:
  std::vector<char*> free_;
};

StackPool& stack_pool() {
  static thread_local StackPool pool;
  return pool;
}

struct PooledStack {
  boost::context::stack_context allocate() {
    boost::context::stack_context out;
    out.size = kStackBytes;
    out.sp = stack_pool().take() + kStackBytes;
    return out;
  }
  void deallocate(boost::context::stack_context& stack) {
    stack_pool().give_back(static_cast<char*>(stack.sp) - kStackBytes);
  }
};

}  // namespace

// What the sanitizers must know of a switch.
struct Fiber::State {
  std::function<void()> body;
  boost::context::fiber fiber, resumer;
  const void* own_bottom = nullptr;
#ifdef PLEAT_ADDRESS_SANITIZER
  void *own_fake_stack = nullptr, *resumer_fake_stack = nullptr;
  const void* resumer_bottom = nullptr;
  size_t resumer_bytes = 0;
#endif
#ifdef PLEAT_THREAD_SANITIZER
  void *own_thread = __tsan_create_fiber(0), *resumer_thread = nullptr;
  ~State() { __tsan_destroy_fiber(own_thread); }
#endif

  void before_resume() {
#ifdef PLEAT_ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(&resumer_fake_stack, own_bottom, kStackBytes);
#endif
#ifdef PLEAT_THREAD_SANITIZER
    resumer_thread = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(own_thread, __tsan_switch_to_fiber_no_sync);
#endif
  }
  void after_resume() {
#ifdef PLEAT_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(resumer_fake_stack, nullptr, nullptr);
#endif
  }
  void before_suspend([[maybe_unused]] bool for_good) {
#ifdef PLEAT_ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(for_good ? nullptr : &own_fake_stack, resumer_bottom, resumer_bytes);
#endif
#ifdef PLEAT_THREAD_SANITIZER
    __tsan_switch_to_fiber(resumer_thread, __tsan_switch_to_fiber_no_sync);
#endif
  }
  void after_suspend() {
#ifdef PLEAT_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(own_fake_stack, &resumer_bottom, &resumer_bytes);
#endif
  }
};

Fiber::Fiber(std::function<void()> body) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.body = std::move(body);
  PooledStack stack;
  boost::context::stack_context memory = stack.allocate();
  state.own_bottom = static_cast<char*>(memory.sp) - memory.size;
  state.fiber = boost::context::fiber(std::allocator_arg, boost::context::preallocated(memory.sp, memory.size, memory),
                                      stack, [&state](boost::context::fiber&& resumer) {
                                        state.resumer = std::move(resumer);
                                        state.after_suspend();
                                        state.body();
                                        state.before_suspend(true);
                                        return std::move(state.resumer);
                                      });
}

Fiber::~Fiber() = default;

void Fiber::resume() {
  state_->before_resume();
  state_->fiber = std::move(state_->fiber).resume();
  state_->after_resume();
}

void Fiber::suspend() {
  state_->before_suspend(false);
  state_->resumer = std::move(state_->resumer).resume();
  state_->after_suspend();
}

}  // namespace pleat::emulator
