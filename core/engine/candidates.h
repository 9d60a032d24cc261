#pragma once
// What of a row's logits the sampler needs where only few tokens can be chosen: the best of them, and what a softmax
// over all of them takes.
#include <array>
#include <cstdint>

namespace pleat {

constexpr int kCandidates = 64;

struct TokenCandidate {
  float value = 0;
  int32_t token = 0;
};

struct RowCandidates {
  std::array<TokenCandidate, kCandidates>
      best{};               // best first, of equal ones the lower token; (-inf, -1) after the last
  double max = 0, sum = 0;  // sum: of exp(logit - max)
  int64_t nans = 0;         // logits that are not numbers; all else is as if they were -inf

  // Of two parts of a vocabulary.
  void merge(const RowCandidates& other);
};

}  // namespace pleat
