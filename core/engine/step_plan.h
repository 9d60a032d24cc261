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
  full,    // rank 0 gets [wanted rows, vocab]
  argmax,  // rank 0 gets the best token of each wanted row (greedy sampling needs no more)
};

struct StepRow {
  int32_t token = 0;
  int32_t position = 0;
  int32_t sequence = 0;    // index into StepPlan::page_tables
  uint8_t folded = 0;      // 1: the FFN runs folded; 0: densely (prompts)
  uint8_t wants_logits = 0;
};

struct StepPlan {
  int64_t step = 0;
  bool stop = false;                               // leave the worker loop
  LogitsMode logits = LogitsMode::none;
  std::vector<StepRow> rows;                       // a sequence's rows stand together, positions ascending
  std::vector<std::vector<int32_t>> page_tables;   // per sequence, covering its last row's position
};

// Sends rank 0's plan to all; on the other ranks `plan` is replaced.
void broadcast_plan(Communicator& communicator, StepPlan& plan);

}  // namespace pleat
