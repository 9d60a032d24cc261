#pragma once
// A model made of a rule: the logits of a token are a hash of all tokens before it, each with the way it was computed.
// What a text has to be can be said in a few lines, without pages, batches, replicas or a clock.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/engine/request.h"
#include "core/text/model_text.h"

namespace pleat::test {

constexpr int32_t kToyVocab = 64, kToyEnd = 0;  // the token that ends a text
constexpr int64_t kToyPositions = 128;

const ModelText& toy_text();

// A token in the cache and whether it was computed folded.
struct ToyCell {
  int32_t token = 0;
  bool folded = false;
};
// logits [kToyVocab]
void toy_logits(std::span<const ToyCell> before, float* logits);

struct WholeText {
  std::vector<int32_t> tokens;
  std::string text, finish_reason;
};
// What the request's text is, whatever happens.
WholeText whole_text(const Request& request);

// The log probabilities of the tokens that follow a prompt.
std::vector<float> toy_logprobs(const std::vector<int32_t>& prompt, const std::vector<int32_t>& given);

}  // namespace pleat::test
