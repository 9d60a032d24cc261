#pragma once
// Ctrl-C and SIGTERM while a job runs: the step in flight is finished, then the job ends in order. SIGUSR1 stands for
// SIGTERM where that would not be passed on alone: mpirun kills its ranks a second after one.

namespace pleat {

// While it lives these signals only leave a note; rank 0 reads it between steps, the other ranks follow rank 0. One
// at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;

  // The signal that came, or 0.
  int signal() const;
  // An eventfd that each signal writes to, for who would rather wait.
  int fd() const;
};

}  // namespace pleat
