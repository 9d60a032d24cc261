#pragma once
// Runs of a model on a device and on the CPU.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/engine/device/device_executor.h"
#include "tests/core/engine/run.h"

namespace pleat::test {

// Tokens of two sequences side by side, of which the first ones are their prompts; the longer one's last are on a
// second page.
constexpr int kTokens[] = {18, 7}, kPrompts[] = {9, 4};
constexpr int kAll = 18, kChunk = 7;

// Prompts densely, `chunk` tokens of each sequence a step; all logits of the first, then of the second.
template <class Run>
std::vector<float> run_two_sequences(int chunk, Run run) {
  std::vector<float> of[2];
  for (int begin = 0; begin < kTokens[0]; begin += chunk) {
    StepPlan plan;
    plan.logits = LogitsMode::full;
    size_t rows[2] = {};
    for (int sequence = 0; sequence < 2 && begin < kTokens[sequence]; ++sequence) {
      for (int position = begin; position < std::min(kTokens[sequence], begin + chunk); ++position, ++rows[sequence])
        plan.rows.push_back({2 + (position * 37 + sequence * 11) % 200, position, sequence,
                             uint8_t(position >= kPrompts[sequence]), 1, uint8_t(position == kPrompts[sequence] - 1)});
      plan.page_tables.push_back({2 * sequence, 2 * sequence + 1});
      plan.slots.push_back(sequence);
    }
    const std::vector<float> part = run(plan);
    const auto middle = part.begin() + int64_t(part.size() / plan.rows.size() * rows[0]);
    of[0].insert(of[0].end(), part.begin(), middle);
    of[1].insert(of[1].end(), middle, part.end());
  }
  of[0].insert(of[0].end(), of[1].begin(), of[1].end());
  return of[0];
}

struct Where {
  int chunk = kAll, ranks = 1;
  Reduction reduction = Reduction::invariant;
  std::optional<DType> cache{};
  DeviceSums sums = DeviceSums::automatic;
  bool dense = false;
};

inline std::vector<float> run_model(const std::string& folder, WeightFormat dtype, const Where& where, bool on_device) {
  LoadOptions options;
  options.dtype = dtype;
  options.dense = where.dense;
  options.reduction = where.reduction;
  options.engine.kv_dtype = where.cache;
  options.engine.device_sums = where.sums;
  if (on_device) options.backend = device_backend();
  std::vector<float> out;
  with_engine(folder, where.ranks, options, [&](Engine& engine, Communicator& communicator) {
    out = run_two_sequences(where.chunk, [&](const StepPlan& plan) { return run_step(engine, communicator, plan); });
  });
  return out;
}

inline std::vector<float> on_the_cpu(const std::string& folder, WeightFormat dtype, const Where& where = {}) {
  return run_model(folder, dtype, where, false);
}
inline std::vector<float> on_the_device(const std::string& folder, WeightFormat dtype, const Where& where = {}) {
  return run_model(folder, dtype, where, true);
}

}  // namespace pleat::test
