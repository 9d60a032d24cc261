#pragma once
// Scores windows on all ranks, with one model or with two in turn.
#include <cstdint>
#include <functional>
#include <span>

#include "core/engine/scoring.h"

namespace pleat {

class EvalLoop {
 public:
  using Row = std::function<void(int64_t index, std::span<const float> logits)>;

  // `reference` may be null.
  EvalLoop(Communicator& communicator, Engine& model, Engine* reference, ScoringOptions scoring)
      : communicator_(communicator), model_(model), reference_(reference), scoring_(scoring) {}

  // Rank 0: runs `work`, then lets the other ranks leave serve(), also where it throws.
  void lead(const std::function<void()>& work);
  // Rank 0, from inside `work`: one window's logits, all of the reference's first.
  void window(std::span<const int32_t> tokens, const Row& reference_row, const Row& model_row);
  // The other ranks: takes part until rank 0 is done.
  void serve();

 private:
  void score_with(Engine& engine, std::span<const int32_t> tokens, const Row& row);

  Communicator& communicator_;
  Engine& model_;
  Engine* reference_;
  ScoringOptions scoring_;
};

}  // namespace pleat
