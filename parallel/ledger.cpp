#include "parallel/ledger.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string_view>

#include "kernels/check.h"

namespace pleat {

static_assert(std::atomic<int64_t>::is_always_lock_free && std::atomic<int32_t>::is_always_lock_free,
              "a ledger is shared between processes");

void SharedName::store(const char* text) {
  uint64_t words[3] = {};
  std::memcpy(words, text, std::min(std::strlen(text), sizeof words - 1));
  for (int i = 0; i < 3; ++i) words_[i].store(words[i], std::memory_order_relaxed);
}

std::string SharedName::load() const {
  char text[sizeof words_ + 1] = {};
  for (int i = 0; i < 3; ++i) {
    const uint64_t word = words_[i].load(std::memory_order_relaxed);
    std::memcpy(text + 8 * i, &word, sizeof word);
  }
  return text;
}

void Ledger::enter(const char* name, int64_t bytes_) {
  collective.store(name);
  bytes.store(bytes_, std::memory_order_relaxed);
  entered_ns.store(steady_ns(), std::memory_order_relaxed);
  inside.store(1, std::memory_order_relaxed);
  collectives.store(collectives.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void Ledger::leave() { inside.store(0, std::memory_order_release); }

void Ledger::set_phase(const char* name) {
  phase.store(name);
  beat();
}

void Ledger::beat() { beat_ns.store(steady_ns(), std::memory_order_relaxed); }

std::string describe(const Ledger& ledger) {
  const int64_t step = ledger.step.load(std::memory_order_relaxed);
  const int layer = ledger.layer.load(std::memory_order_relaxed);
  const std::string phase = ledger.phase.load();
  std::string text = step >= 0 ? concat("in step ", step) : "while " + (phase.empty() ? "starting" : phase);
  if (layer >= 0) text += concat(", layer ", layer);
  if (ledger.collectives.load(std::memory_order_acquire) > 0) {
    const bool inside = ledger.inside.load(std::memory_order_acquire);
    text += concat(inside ? ", collective '" : ", after collective '", ledger.collective.load(), "'");
    if (inside) text += concat(" (", ledger.bytes.load(std::memory_order_relaxed), " bytes)");
  }
  return text;
}

int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace pleat
