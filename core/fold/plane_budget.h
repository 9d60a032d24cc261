#pragma once
// How many planes each layer's FFN matrices get under a budget of bytes (ShiftAddLLM, arXiv 2406.05981: layers differ
// in what an error costs): gate and up of a layer together, down apart.
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/fold/dense_model.h"
#include "core/fold/quantised_weights.h"

namespace pleat {

constexpr int kFewestPlanes = 2, kPlaneChoices = 3;  // 2, 3 or 4

// One tensor, quantised each way.
struct PlaneCandidates {
  std::string tensor;
  int layer = 0;
  bool down = false;
  size_t part = 0;  // of the report
  int64_t bytes_bf16 = 0;
  std::array<QuantisedWeights, kPlaneChoices> weights;
  std::array<OutputError, kPlaneChoices> errors;
};

struct PlaneChoice {
  int layer = 0;
  bool down = false;
  int planes = 0;
  double kl = 0;  // estimated
};

// What an error in a layer costs: KL for a unit of the FFN output's relative squared error [layers], by noise in one
// layer after the other (quality.h).
std::vector<double> plane_sensitivity(DenseModel& model, std::span<const Window> windows,
                                      const std::function<void(double)>& done);

// The choice with the least sum of sensitivity * relative squared error of the outputs (of gate and up: added) whose
// bytes are within share * the bf16 bytes; one of every layer and kind among the candidates, in their order.
// Error(invalid) if the fewest planes are over it.
std::vector<PlaneChoice> choose_planes(const std::vector<PlaneCandidates>& candidates,
                                       const std::vector<double>& sensitivity, double share);

}  // namespace pleat
