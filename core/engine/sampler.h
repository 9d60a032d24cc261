#pragma once
// Chooses the next token of one sequence. The choice depends on the logits, the sequence so far and the request alone:
// its random number is a function of (seed, position), so neighbours in the batch, restarts and other replicas do not
// change a text.
#include <cstdint>
#include <span>
#include <vector>

#include "core/engine/candidates.h"
#include "core/engine/request.h"

namespace pleat {

// Does the best token of the raw logits settle the choice?
inline bool needs_only_argmax(const SamplingOptions& sampling) {
  return sampling.temperature == 0 && sampling.repetition_penalty == 1 && sampling.logprobs < 0;
}

// Do the best kCandidates tokens settle it, whatever the logits are? Where a cut by probability is the only one, the
// tokens it leaves may be more; a penalty may bring up any other.
inline bool needs_only_candidates(const SamplingOptions& sampling) {
  const bool few = sampling.temperature == 0 || (sampling.top_k > 0 && sampling.top_k <= kCandidates);
  return few && sampling.repetition_penalty == 1 && sampling.logprobs <= kCandidates;
}

// Logits hold NaN, or no finite value: one text's trouble.
class LogitsNotFinite : public Error {
 public:
  LogitsNotFinite() : Error(ErrorKind::failed, "the model's logits are not finite numbers") {}
};

// Work space for one vocabulary; not for several threads at once.
class Sampler {
 public:
  explicit Sampler(int64_t vocab);

  // Filters in Hugging Face's order: repetition penalty, temperature, top-k, top-p, min-p; then a draw among the tokens
  // left. Equal logits: the lower id goes first, so greedy takes the lowest id and top-k keeps exactly k.
  //   logits    [vocab]
  //   sequence  prompt and generated tokens so far; its length is the new token's position
  // May throw LogitsNotFinite.
  int32_t sample(const SamplingOptions& sampling, std::span<const int32_t> sequence, std::span<const float> logits);

  // The same token, where needs_only_candidates(sampling).
  int32_t sample(const SamplingOptions& sampling, std::span<const int32_t> sequence, const RowCandidates& row);

  // Log-softmax of the raw logits, before penalty, temperature and filters: the token's and the `best` largest, best
  // first.
  TokenLogprob logprob(std::span<const float> logits, int32_t token, int best);
  // The same but for the rounding of the sum over the vocabulary.   token: a candidate; best <= kCandidates
  TokenLogprob logprob(const RowCandidates& row, int32_t token, int best) const;

 private:
  struct Candidate {
    int32_t token;
    float logit;
    double weight;  // exp((logit - largest) / temperature)
  };
  static bool before(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  }

  void fill(std::span<const float> logits);
  int32_t choose(const SamplingOptions& sampling, size_t position);
  void penalise(float penalty, std::span<const int32_t> sequence);
  void keep_top_k(size_t k);
  void keep_top_p(double p);
  void keep_min_p(double p);
  int32_t draw(double uniform) const;

  size_t vocab_;
  std::vector<Candidate> candidates_;  // capacity [vocab]
};

}  // namespace pleat
