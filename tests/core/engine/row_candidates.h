#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "core/engine/candidates.h"

namespace pleat::test {

// By a full sort, of the tokens from `first_token` on.
inline RowCandidates candidates_of(std::span<const float> logits, int32_t first_token = 0) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  RowCandidates out;
  std::vector<TokenCandidate> order;
  for (size_t i = 0; i < logits.size(); ++i) {
    out.nans += std::isnan(logits[i]);
    order.push_back({std::isnan(logits[i]) ? kNothing : logits[i], first_token + int32_t(i)});
  }
  std::stable_sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.value > b.value; });
  out.max = double(order[0].value);
  for (const TokenCandidate& each : order)
    out.sum += double(each.value) == out.max ? 1.0 : std::exp(double(each.value) - out.max);
  order.resize(kCandidates, {kNothing, -1});
  std::copy(order.begin(), order.end(), out.best.begin());
  return out;
}

// As that many ranks give them, merged.
inline RowCandidates candidates_of_ranks(std::span<const float> logits, size_t ranks) {
  RowCandidates out;
  for (size_t rank = 0; rank < ranks; ++rank) {
    const size_t begin = logits.size() * rank / ranks, end = logits.size() * (rank + 1) / ranks;
    const RowCandidates part = candidates_of(logits.subspan(begin, end - begin), int32_t(begin));
    if (rank == 0)
      out = part;
    else
      out.merge(part);
  }
  return out;
}

}  // namespace pleat::test
