#pragma once
// Executes steps on a device: what engine.h's Engine does on the CPU, of one rank so far.
#include <memory>

#include "core/engine/engine.h"

namespace pleat {

class DeviceStep : public StepExecutor {
 public:
  // kv_tokens: the cache's capacity. Error(unimplemented) where the model has something that the device code lacks.
  DeviceStep(const Blueprint& blueprint, const Weights& weights, int64_t kv_tokens);
  ~DeviceStep() override;

  // A plan of any number of rows, kMaxRows of them at a time, prompts' and generated tokens apart.
  void step(const StepPlan& plan) override;
  MatrixView<const float> logits() const override;  // [wanted rows, vocab], until the next step

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat
