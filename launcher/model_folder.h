#pragma once
// Opening a model folder on all ranks.
#include <string>

#include "core/engine/engine.h"
#include "launcher/command.h"

namespace pleat {

// Reads headers only: the folder, its blueprint, that every tensor is there, and that `ranks` can share it.
// Error(invalid) in one sentence. Rank 0 does this before anybody loads, so that a bad folder ends all ranks together.
void check_model(const std::string& folder, int ranks, Reduction reduction);

struct ModelOptions {
  std::string folder;
  bool dense = false;  // a folded folder run densely
  EngineOptions engine;
};

// After check_model() was agreed upon.
LoadedModel load_on_ranks(const ModelOptions& model, const CommonOptions& options, Communicator& communicator);

// "pleat-gpt2-9m" for "models/pleat-gpt2-9m/".
std::string model_name(const std::string& folder);

}  // namespace pleat
