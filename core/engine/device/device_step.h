#pragma once
// Executes a rank's steps on its device: what engine.h's Engine does on the CPU.
#include <memory>

#include "core/engine/engine.h"

namespace pleat {

struct DeviceWeights;

class DeviceStep : public StepExecutor {
 public:
  // Collective. options.kv_tokens: the cache's capacity, less where the smallest device is too full.
  DeviceStep(const Blueprint& blueprint, DeviceWeights weights, const ShardPlan& plan, Communicator& communicator,
             const EngineOptions& options);
  ~DeviceStep() override;

  // A plan of any number of rows, generated tokens kMaxRows of them at a time and prompts' kPromptRows. The two go
  // through other kernels, which add in other orders: how a token came decides, not how many rows there are, so that
  // its bits depend on its sequence alone.
  void step(const StepPlan& plan) override;
  MatrixView<const float> logits() const override;
  std::span<const TokenCandidate> best() const override;
  std::span<const RowCandidates> candidates() const override;
  int64_t kv_pages() const override;
  PhaseBytes weight_bytes() const override;
  PhaseSeconds phase_seconds() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat
