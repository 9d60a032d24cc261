#pragma once
// What a rank is doing, written by it and readable by the other ranks of its host and by its guardian, in shared
// memory.
#include <atomic>
#include <cstdint>
#include <string>

namespace pleat {

// A text of up to 23 characters that others may read while it is written (they may see a mix of old and new).
class SharedName {
 public:
  void store(const char* text);
  std::string load() const;

 private:
  std::atomic<uint64_t> words_[3] = {};
};

struct alignas(64) Ledger {
  std::atomic<int64_t> step{-1};
  std::atomic<int32_t> layer{-1};
  std::atomic<int32_t> inside{0};       // 1 while in a collective
  std::atomic<int64_t> collectives{0};  // how many were entered
  std::atomic<int64_t> bytes{0};        // of the current or last one
  std::atomic<int64_t> entered_ns{0};   // steady clock
  std::atomic<int64_t> beat_ns{0};      // steady clock; last sign of life outside collectives
  std::atomic<int32_t> pid{0};
  std::atomic<int32_t> finished{0};               // 1: left in order
  std::atomic<int32_t> lost{0};                   // 1: died, and its guardian has said so
  std::atomic<int64_t> grace_ns{10'000'000'000};  // for its end in order, once it was asked to end
  SharedName collective;                          // name of the current or last one
  SharedName phase;                               // "starting", "loading", "running" ...

  void enter(const char* name, int64_t bytes);
  void leave();
  void set_phase(const char* name);
  // "I am alive": restarts the deadline of the ranks of this host that wait for this one. For long work between
  // collectives: loading, waiting for requests.
  void beat();
};

// "in step 12, layer 3, collective 'ffn' (6400 bytes)", "in step 12, layer 3, after collective 'attention'", or before
// the first step "while loading".
std::string describe(const Ledger& ledger);

// Nanoseconds of the steady clock, comparable between processes of a host.
int64_t steady_ns();

}  // namespace pleat
