#pragma once
// Runs of a model on a device and on the CPU.
#include <algorithm>
#include <string>
#include <vector>

#include "core/engine/device/device_executor.h"
#include "tests/core/engine/run.h"

namespace pleat::test {

constexpr int kPrompt = 9, kTokens = 18, kChunk = 7;  // the last tokens are on a second page

// Two sequences side by side, their prompts densely, `chunk` tokens of each a step; all logits of the first, then of
// the second.
template <class Run>
std::vector<float> run_two_sequences(int chunk, Run run) {
  std::vector<float> of[2];
  for (int begin = 0; begin < kTokens; begin += chunk) {
    StepPlan plan;
    plan.logits = LogitsMode::full;
    for (int sequence = 0; sequence < 2; ++sequence) {
      for (int position = begin; position < std::min(kTokens, begin + chunk); ++position)
        plan.rows.push_back({2 + (position * 37 + sequence * 11) % 200, position, sequence,
                             uint8_t(position >= kPrompt), 1, uint8_t(position == kPrompt - 1)});
      plan.page_tables.push_back({2 * sequence, 2 * sequence + 1});
      plan.slots.push_back(sequence);
    }
    const std::vector<float> part = run(plan);
    for (int sequence = 0; sequence < 2; ++sequence)
      of[sequence].insert(of[sequence].end(), part.begin() + sequence * int64_t(part.size()) / 2,
                          part.begin() + (sequence + 1) * int64_t(part.size()) / 2);
  }
  of[0].insert(of[0].end(), of[1].begin(), of[1].end());
  return of[0];
}

inline std::vector<float> on_the_cpu(const std::string& folder, WeightFormat dtype) {
  LoadOptions options;
  options.dtype = dtype;
  std::vector<float> out;
  with_engine(folder, 1, options, [&](Engine& engine, Communicator& communicator) {
    out = run_two_sequences(kTokens, [&](const StepPlan& plan) { return run_step(engine, communicator, plan); });
  });
  return out;
}

inline std::vector<float> on_the_device(const std::string& folder, WeightFormat dtype, int chunk, int ranks = 1,
                                        Reduction reduction = Reduction::invariant) {
  LoadOptions options;
  options.dtype = dtype;
  options.reduction = reduction;
  options.executor = device_executor();
  std::vector<float> out;
  with_engine(folder, ranks, options, [&](Engine& engine, Communicator& communicator) {
    out = run_two_sequences(chunk, [&](const StepPlan& plan) { return run_step(engine, communicator, plan); });
  });
  return out;
}

}  // namespace pleat::test
