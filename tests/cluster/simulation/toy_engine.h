#pragma once
// The toy model behind a scheduler: it knows of a text only what stands in the pages that a plan names, so a page that
// is given away too early, shared wrongly or never computed makes a wrong text.
#include <functional>

#include "core/engine/batcher.h"
#include "core/engine/scheduler.h"
#include "tests/cluster/simulation/toy_model.h"

namespace pleat::test {

class ToyEngine {
 public:
  // Told of each text that grows: its prompt, and how many tokens follow that now.
  using Progress = std::function<void(std::span<const ToyCell> prompt, int64_t written)>;
  ToyEngine(const BatchLimits& limits, Progress progress);

  StepResult compute(const StepPlan& plan);

 private:
  std::vector<ToyCell> text_of(const StepPlan& plan, const StepRow& row) const;

  const BatchLimits limits_;
  const Progress progress_;
  std::vector<ToyCell> cells_;    // [pages * kPageTokens]
  std::vector<int64_t> prompts_;  // [max_batch] lengths, by slot
  std::vector<float> logits_;     // [wanted rows, kToyVocab]
  std::vector<int32_t> best_;     // [wanted rows]
};

}  // namespace pleat::test
