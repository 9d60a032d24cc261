#pragma once
// One block of CUDA threads on one OS thread, a fiber each. Whatever the CUDA programming guide leaves undefined and
// can be noticed ends the process with one line that begins with "emulator:" and names the place, the block and the
// thread: barriers that not all threads reach, or at different places; warp operations whose lanes disagree, or that
// name a lane that has ended; accesses outside an allocation or a shared array, those past it by data() when the block
// ends; threads of a grid that overlaps the one before it and never wait for that; calls that wait for a grid which
// waits for them (running_grids.h).
#include <vector_types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/emulator/fiber.h"

namespace pleat::emulator {

// A line of a source file; as a default argument the caller's. (std::source_location, which clang 14 does not have.)
struct Place {
  const char* file = "";
  unsigned line = 0;
  static constexpr Place current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return {file, line};
  }
};

struct Grid {
  dim3 blocks, threads;
  size_t dynamic_shared = 0;
  bool has_all_shared = false;  // its block may have most_shared() bytes, and not 48 KiB
  bool cooperative = false;     // blocks wait for each other: an OS thread each
  bool overlaps = false;        // may start before the grid before it has ended, so must wait for it
  Place launched;
};

// Bytes of shared memory of a block: 163 KiB, as at compute capability 8.0, or as many KiB as the environment variable
// PLEAT_EMULATED_SHARED_KIB says (99: 8.6, 8.9 and 12.0).
int most_shared();

// Whether such a device would start it.
bool can_launch(const Grid& grid);

// Runs `body` as every thread of the grid; blocks one after the other unless cooperative.
void run_grid(const Grid& grid, const std::function<void()>& body);

// In which order ready threads run: 0 as they came, else pseudo-random. Of the calling OS thread's grids.
void set_schedule(unsigned seed);

enum class WarpOp : uint8_t { synchronise, shuffle, ballot, together };

// What the lanes of a warp offer to what one of them does for all.
using WarpOffers = std::array<uint64_t, 32>;
using WarpWork = void (*)(const WarpOffers& lanes);

// Copies that a thread has started and not waited for (async_copy.h).
struct AsyncCopies {
  struct Copy {
    void* to;
    const void* from;
    int bytes, zeros;  // zeros: after the bytes
    unsigned group;
  };
  std::vector<Copy> pending;  // in the order they were started
  unsigned groups = 0;        // ended so far
};

class Block;

struct Thread {
  uint3 index;
  unsigned number = 0;  // in the block; lane = number % 32
  Block* block = nullptr;
  std::unique_ptr<Fiber> fiber;
  enum class State : uint8_t { ready, at_barrier, in_warp_op, ended } state = State::ready;
  bool waited_for_previous = false;
  Place place;  // where it waits
  // The warp operation it waits in.
  WarpOp op = WarpOp::synchronise;
  unsigned mask = 0;
  uint64_t value = 0;   // offered, then received
  unsigned source = 0;  // lane whose value it asks for
  WarpWork work = nullptr;
  AsyncCopies async_copies;

  unsigned lane() const { return number % 32; }
  unsigned warp() const { return number / 32; }
};

class Block {
 public:
  Block(const Grid& grid, uint3 index);
  void run(const std::function<void()>& body);

  // Called by its threads.
  static Thread& current();
  void barrier(Place place);
  // shuffle: what lane `source` offers; ballot: bit l where lane l of the mask offers other than 0.
  uint64_t warp_op(WarpOp op, unsigned mask, uint64_t value, unsigned source, Place place, WarpWork work = nullptr);
  // What one lane does for the whole warp, with what each offers (a pointer to what it reads and writes).
  void warp_together(WarpWork work, void* mine, Place place);
  void yield();
  static void wait_for_previous() { current().waited_for_previous = true; }
  void* dynamic_shared() const { return dynamic_shared_.get(); }
  const Grid& grid() const { return grid_; }
  uint3 index() const { return index_; }
  uint64_t serial() const { return serial_; }                    // of all blocks of this OS thread, from 1
  void guard_shared(const unsigned char* memory, size_t bytes);  // with a guard before it and one behind

 private:
  void run_thread(Thread& thread, const std::function<void()>& body);
  void check_shared() const;
  void end(Thread& thread);
  void try_barrier();
  void try_warp_op(Thread& thread);
  void wait(Thread& thread);
  void make_ready(Thread& thread);
  unsigned& ready(size_t place);  // of those that are ready, in the order they came; place < the block's threads
  Thread* next_ready();
  [[noreturn]] void report_deadlock();

  const Grid& grid_;
  uint3 index_;
  uint64_t serial_;
  std::vector<Thread> threads_;
  std::vector<unsigned> ready_;  // a ring
  size_t first_ready_ = 0, ready_count_ = 0, yields_ = 0;
  unsigned live_ = 0, at_barrier_ = 0;
  uint64_t random_ = 0;
  std::unique_ptr<void, void (*)(void*)> dynamic_shared_;
  struct SharedMemory {
    const unsigned char* memory;
    size_t bytes;
  };
  std::vector<SharedMemory> shared_;  // the __shared__ arrays that it has used, with their guards
  size_t shared_bytes_;               // of them, and the dynamic ones
  // Places that stand for what orders threads, for the thread sanitizer: the launch, the block's end, barriers (of even
  // and odd number apart, or a fast thread's next barrier would order a slow one's last), and the same of each warp.
  char begin_order_ = 0, end_order_ = 0;
  char barrier_order_[2] = {};
  unsigned barriers_ = 0;
  std::vector<unsigned> warp_syncs_;  // of each thread
  struct Warp {
    unsigned waiting = 0, ended = 0;  // lanes in a warp operation; lanes that have ended or never were
    char order[2] = {};
  };
  std::vector<Warp> warps_;
};

constexpr size_t kSharedGuard = 64;  // bytes before and behind a __shared__ array

// A __shared__ array of the running block, between its guards: filled with 0xff bytes, as they are, when a block first
// asks for it.   owner: who did last; memory [bytes]: with the guards
void* shared_memory(uint64_t& owner, unsigned char* memory, size_t bytes);

// Ends the process: "emulator: <what> (launched at ..., block ..., thread ...)".
[[noreturn]] void fail(const char* what, Place place = Place::current());

}  // namespace pleat::emulator
