#include "core/engine/request.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"

namespace pleat {

void validate(const SamplingOptions& sampling) {
  PLEAT_REQUIRE(std::isfinite(sampling.temperature) && sampling.temperature >= 0, "temperature is ",
                sampling.temperature, ", expected 0 or more");
  PLEAT_REQUIRE(sampling.top_k >= 0, "top_k is ", sampling.top_k, ", expected 0 (all) or more");
  PLEAT_REQUIRE(sampling.top_p > 0 && sampling.top_p <= 1, "top_p is ", sampling.top_p,
                ", expected above 0 and at most 1");
  PLEAT_REQUIRE(sampling.min_p >= 0 && sampling.min_p <= 1, "min_p is ", sampling.min_p, ", expected 0 to 1");
  PLEAT_REQUIRE(sampling.repetition_penalty >= 0.01f && sampling.repetition_penalty <= 100, "repetition_penalty is ",
                sampling.repetition_penalty, ", expected 0.01 to 100");
  PLEAT_REQUIRE(sampling.max_tokens >= 1, "max_tokens is ", sampling.max_tokens, ", expected 1 or more");
  for (const std::string& stop : sampling.stop) PLEAT_REQUIRE(!stop.empty(), "a stop string is empty");
}

void require_context(const Request& request, int64_t max_positions) {
  const size_t told = request.prompt.size() + request.given.size() + request.written.size();
  PLEAT_REQUIRE(int64_t(told) <= max_positions, "prompt and continuation have ", told,
                " tokens, but the model's context has ", max_positions);
  PLEAT_REQUIRE(int64_t(request.prompt.size()) < max_positions, "the prompt has ", request.prompt.size(),
                " tokens, but the model's context of ", max_positions, " leaves room for at most ", max_positions - 1);
}

void validate(const Request& request, int64_t vocab, int64_t max_positions) {
  const SamplingOptions& sampling = request.sampling;
  for (const auto* tokens : {&request.prompt, &request.given, &request.written})
    for (const int32_t token : *tokens)
      PLEAT_REQUIRE(token >= 0 && token < vocab, "the ", tokens == &request.prompt ? "prompt" : "continuation",
                    " has token ", token, ", but the model's vocabulary has ", vocab);
  require_context(request, max_positions);
  PLEAT_REQUIRE(int64_t(request.written.size()) <= std::max(0, sampling.max_tokens), request.written.size(),
                " tokens are written already, but max_tokens is ", sampling.max_tokens);
  validate(sampling);
  PLEAT_REQUIRE(sampling.logprobs >= -1 && sampling.logprobs <= vocab, "logprobs is ", sampling.logprobs,
                ", expected -1 (none) to ", vocab);
}

}  // namespace pleat
