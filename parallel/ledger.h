#pragma once
// What a rank is doing, written by it and readable by the other ranks of its host and by its guardian, in shared memory.
#include <atomic>
#include <cstdint>
#include <string>

namespace pleat {

struct alignas(64) Ledger {
  std::atomic<int64_t> step{-1};
  std::atomic<int32_t> layer{-1};
  std::atomic<int32_t> inside{0};        // 1 while in a collective
  std::atomic<int64_t> collectives{0};   // how many were entered
  std::atomic<int64_t> bytes{0};         // of the current or last one
  std::atomic<int64_t> entered_ns{0};    // steady clock
  std::atomic<int32_t> pid{0};
  std::atomic<int32_t> finished{0};      // 1: left in order
  char collective[24] = {};              // name of the current or last one
  char phase[24] = {};                   // "starting", "loading", "running" ...

  void enter(const char* name, int64_t bytes);
  void leave();
  void set_phase(const char* name);
};

// "step 12, layer 3, in all-reduce 'ffn' (6400 bytes)" or "loading" for a ledger that never entered one.
std::string describe(const Ledger& ledger);

}  // namespace pleat
