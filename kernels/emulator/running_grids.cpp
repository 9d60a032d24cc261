#include "kernels/emulator/running_grids.h"

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <thread>

namespace pleat::emulator {
namespace {

constexpr int kMostGrids = 64;  // that run at once

// All of it without memory order: what this knows must not hide from the thread sanitizer that nothing orders the grids
// of two threads.
constexpr std::memory_order kUnordered = std::memory_order_relaxed;

struct Slot {
  std::atomic<uint64_t> ticket{0};  // of the grid's start; 0: none
  std::atomic<bool> taken{false};
  std::atomic<int> device{0};
  std::atomic<const char*> file{nullptr};
  std::atomic<unsigned> line{0};
};

std::array<Slot, kMostGrids> slots;
std::atomic<uint64_t> tickets{0}, blocks_ended{0};
std::atomic<int64_t> patience_ms{20'000};

int current_device() {
  int device = 0;
  cudaGetDevice(&device);
  return device;
}

}  // namespace

RunningGrid::RunningGrid(const Place& launched) {
  while (slot_ < kMostGrids && slots[size_t(slot_)].taken.exchange(true, kUnordered)) ++slot_;
  if (slot_ == kMostGrids) fail("more grids run at once than the emulator has room for", launched);
  Slot& slot = slots[size_t(slot_)];
  slot.device.store(current_device(), kUnordered);
  slot.file.store(launched.file, kUnordered);
  slot.line.store(launched.line, kUnordered);
  slot.ticket.store(tickets.fetch_add(1, kUnordered) + 1, kUnordered);
}

RunningGrid::~RunningGrid() {
  Slot& slot = slots[size_t(slot_)];
  slot.ticket.store(0, kUnordered);
  slot.taken.store(false, kUnordered);
}

void note_progress() { blocks_ended.fetch_add(1, kUnordered); }

void set_patience(std::chrono::milliseconds patience) { patience_ms.store(patience.count(), kUnordered); }

void wait_for_running_grids(const char* call) {
  using Clock = std::chrono::steady_clock;
  const int device = current_device();
  std::array<uint64_t, kMostGrids> running;
  for (size_t i = 0; i < running.size(); ++i) running[i] = slots[i].ticket.load(kUnordered);
  Clock::time_point since = Clock::now();
  uint64_t ended = blocks_ended.load(kUnordered);
  for (size_t i = 0; i < running.size(); ++i)
    while (running[i] != 0 && slots[i].device.load(kUnordered) == device &&
           slots[i].ticket.load(kUnordered) == running[i]) {
      if (ended != blocks_ended.load(kUnordered)) {
        ended = blocks_ended.load(kUnordered);
        since = Clock::now();
      }
      if (Clock::now() - since > std::chrono::milliseconds(patience_ms.load(kUnordered))) {
        char what[160];
        std::snprintf(what, sizeof what, "%s waits for this grid, which waits for what comes after that call", call);
        fail(what, {slots[i].file.load(kUnordered), slots[i].line.load(kUnordered)});
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
}

}  // namespace pleat::emulator
