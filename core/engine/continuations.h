#pragma once
// How likely the model finds given continuations of given contexts (multiple-choice tasks), many of them together.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "core/text/tokenizer.h"

namespace pleat {

struct Continuation {
  std::vector<int32_t> context;       // at least one token
  std::vector<int32_t> continuation;  // at least one token
};

// Of a text: both are encoded together and parted where the context alone ends; white space at the context's end
// belongs to the continuation. The special tokens that the model expects in front of a text are in front of the
// context. Error(invalid) if one of the two gets no tokens of its own.
Continuation continuation_tokens(const Tokenizer& tokenizer, const std::string& context,
                                 const std::string& continuation);

// Calls done(index, sum of the log probabilities of the continuation's tokens) for each, in order. Contexts run densely
// (like prompts), continuation tokens through the decode path: the first of them is predicted by the context's last
// row, so densely, and only the others from folded rows. What does not fit the model's context loses its first
// tokens. Rank 0 calls it; other ranks serve_steps().
void score_continuations(Engine& engine, Communicator& communicator, std::span<const Continuation> items,
                         const std::function<void(size_t index, double log_likelihood)>& done);

}  // namespace pleat
