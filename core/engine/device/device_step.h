#pragma once
// Executes a rank's steps on its device: what engine.h's Engine does on the CPU.
#include <memory>

#include "core/engine/engine.h"

namespace pleat {

class DeviceStep : public StepExecutor {
 public:
  // Collective. kv_tokens: the cache's capacity. Error(unimplemented) where the model has something that the device
  // code lacks.
  DeviceStep(const Blueprint& blueprint, const Weights& weights, const ShardPlan& plan, Communicator& communicator,
             int64_t kv_tokens);
  ~DeviceStep() override;

  // A plan of any number of rows, kMaxRows of them at a time, prompts' and generated tokens apart.
  void step(const StepPlan& plan) override;
  MatrixView<const float> logits() const override;
  std::span<const TokenCandidate> best() const override;
  int64_t weight_bytes() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat
