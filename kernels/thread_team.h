#pragma once
// A fixed team of threads for fork-join work of a few microseconds. The calling thread is member 0. Members wait
// spinning for a while and then sleep (futex), or yield at once when `oversubscribed` (more threads than cores on this
// host).
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>

namespace pleat {

class ThreadTeam {
 public:
  ThreadTeam(int threads, bool oversubscribed);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;

  int threads() const;
  // Since start: how often the members met at the end of their work (never where there is one), and how long the caller
  // waited for the others there.
  int64_t barriers() const;
  double barrier_seconds() const;

  // Calls work(member) once on every member and returns when all are done. `work` must not throw. No allocation.
  template <class Work>
  void run(Work&& work) {
    using Type = std::remove_reference_t<Work>;
    run_erased([](void* context, int member) { (*static_cast<Type*>(context))(member); }, (void*)&work);
  }

  // Splits [0, count) in contiguous parts, one a member: work(member, begin, end).
  template <class Work>
  void split(int64_t count, Work&& work) {
    const int64_t members = threads();
    run([&](int member) { work(member, count * member / members, count * (member + 1) / members); });
  }

  // Hands out [0, count) one by one, in order, to whoever is free: work(member, index).
  template <class Work>
  void each(int64_t count, Work&& work) {
    reset_next();
    run([&](int member) {
      for (int64_t index = take_next(); index < count; index = take_next()) work(member, index);
    });
  }

  // The same for work that may throw: then nobody takes another index, and the first exception is thrown here.
  template <class Work>
  void try_each(int64_t count, Work&& work) {
    std::atomic<bool> failed = false;
    std::exception_ptr error;
    each(count, [&](int member, int64_t index) {
      if (failed) return;
      try {
        work(member, index);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    });
    if (error) std::rethrow_exception(error);
  }

 private:
  void run_erased(void (*work)(void*, int), void* context);
  void reset_next();
  int64_t take_next();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat
