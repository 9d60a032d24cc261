#include "core/engine/candidates.h"

#include <algorithm>
#include <cmath>

namespace pleat {

void RowCandidates::merge(const RowCandidates& other) {
  const auto goes_first = [](const TokenCandidate& a, const TokenCandidate& b) {
    return a.value != b.value ? a.value > b.value : uint32_t(a.token) < uint32_t(b.token);
  };
  std::array<TokenCandidate, 2 * kCandidates> of_both;
  std::merge(best.begin(), best.end(), other.best.begin(), other.best.end(), of_both.begin(), goes_first);
  std::copy_n(of_both.begin(), kCandidates, best.begin());
  const double largest = std::max(max, other.max);
  const auto sum_of = [&](const RowCandidates& part) {
    return part.max == largest ? part.sum : part.sum * std::exp(part.max - largest);
  };
  sum = sum_of(*this) + sum_of(other);
  max = largest;
  nans += other.nans;
}

}  // namespace pleat
