#pragma once
// Teacher forcing: the logits of given tokens, for perplexity and comparisons.
#include <cstdint>
#include <functional>
#include <span>

#include "core/engine/engine.h"

namespace pleat {

struct ScoringOptions {
  int window = 512;        // tokens; each starts from an empty cache; its last one is only asked about, never put in
  int exact_prefix = 1;    // first tokens of a window are its prompt and run densely (position 0 always)
  int64_t max_tokens = 0;  // 0: all
};

// Runs `tokens` window by window (no overlap; a last incomplete window of at least 2 tokens counts) and calls
// row(index, logits [vocab]) for each token index that has a following token in its window, in order. Rank 0 calls it;
// other ranks serve_steps(). Every token after the exact prefix goes through the decode path (folded where the model
// is).
void score(Engine& engine, Communicator& communicator, std::span<const int32_t> tokens, const ScoringOptions& options,
           const std::function<void(int64_t index, std::span<const float> logits)>& row);

}  // namespace pleat
