#pragma once
// A request for a text and what comes of it.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/check.h"

namespace pleat {

// OpenAI's fields where they exist. Greedy where temperature is 0.
struct SamplingOptions {
  float temperature = 0.0f;
  int top_k = 0;  // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;               // of the best token's probability
  float repetition_penalty = 1.0f;  // over prompt and generated tokens (CTRL, arXiv 1909.05858)
  uint64_t seed = 0;
  int max_tokens = 64;
  std::vector<std::string> stop;  // the text ends before the first of these
  bool ignore_eos = false;
  int logprobs = -1;  // -1: none; else the chosen token's and this many best
};

struct Request {
  std::string id;
  std::vector<int32_t> prompt;  // empty: one end-of-text token
  SamplingOptions sampling;
  std::vector<int32_t> given;  // if any: the tokens after the prompt, told and not chosen, to learn their logprobs
  // The first tokens of a text that was begun elsewhere. They are computed as if chosen here, but not told again: the
  // pieces are those that came after them, and the whole text is the one without an interruption.
  std::vector<int32_t> written;
  int priority = 0;  // a higher one starts before all lower ones that wait, and gives way after those that run
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> best;
};

// What a text grows by in one step.
struct Piece {
  int32_t token = 0;
  std::string text;                       // what no later token can take back; may be empty
  const TokenLogprob* logprob = nullptr;  // where asked for
};

struct Completion {
  std::string id;
  std::vector<int32_t> tokens;
  std::string text;
  std::string finish_reason;  // "stop" or "length", or "error"
  std::vector<TokenLogprob> logprobs;
  int64_t prompt_tokens = 0;
  std::optional<Error> error;  // why no more of the text could be written
};

// Error(invalid) where it is longer than the model's context.
void require_context(const Request& request, int64_t max_positions);

// Check ranges. Error(invalid) in one sentence.
void validate(const SamplingOptions& sampling);
void validate(const Request& request, int64_t vocab, int64_t max_positions);

}  // namespace pleat
