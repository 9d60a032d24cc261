#pragma once
// What one step computes. Rank 0 makes it, every rank executes it, nothing else steers a rank.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pleat {

class Communicator;

enum class LogitsMode : uint8_t {
  none,
  full,        // rank 0 gets [wanted rows, vocab]
  argmax,      // rank 0 gets the best token of each wanted row (greedy sampling needs no more)
  candidates,  // rank 0 gets the best kCandidates tokens of each
  both,        // candidates and full, so that what a row gives does not depend on what the others need
};
inline bool asks_for_logits(LogitsMode mode) { return mode == LogitsMode::full || mode == LogitsMode::both; }
inline bool asks_for_candidates(LogitsMode mode) { return mode == LogitsMode::candidates || mode == LogitsMode::both; }

struct StepRow {
  int32_t token = 0;
  int32_t position = 0;
  int32_t sequence = 0;  // index into StepPlan::page_tables
  uint8_t folded = 0;    // 1: the FFN runs folded; 0: densely (prompts)
  uint8_t wants_logits = 0;
  uint8_t prompt_end = 0;  // 1: the last row of its sequence's prompt
};

struct StepPlan {
  int64_t step = 0;
  bool stop = false;  // leave the worker loop
  LogitsMode logits = LogitsMode::none;
  std::vector<StepRow> rows;                      // a sequence's rows stand together, positions ascending
  std::vector<std::vector<int32_t>> page_tables;  // per sequence, covering its last row's position
  std::vector<int32_t> slots;                     // per sequence: a small number of its own, the same in all its steps
};

// Sends rank 0's plan to all; on the other ranks `plan` is replaced. A plan without rows that does not stop only says
// that rank 0 is alive: the other ranks then wait on for the next plan.
void broadcast_plan(Communicator& communicator, StepPlan& plan);

// The bytes that travel. Parsing checks every count, index and position: Error(failed) if they are not those of a plan.
std::vector<std::byte> serialise(const StepPlan& plan);
StepPlan parse_plan(std::span<const std::byte> bytes);

}  // namespace pleat
