#include "core/fold/logit_comparison.h"

#include <algorithm>
#include <cmath>

namespace pleat {
namespace {

// log of the sum of exp(logits), the exponentials in f32, their sum in f64.
double log_sum(const float* logits, size_t n) {
  const float largest = *std::max_element(logits, logits + n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += double(std::exp(logits[i] - largest));
  return double(largest) + std::log(sum);
}

Divergence compare_row(const float* dense, double dense_sum, const float* changed, size_t vocab, size_t next) {
  const double changed_sum = log_sum(changed, vocab);
  double kl = changed_sum - dense_sum;
  for (size_t i = 0; i < vocab; ++i) {
    kl += double(std::exp(dense[i] - float(dense_sum))) * (double(dense[i]) - changed[i]);
  }
  const bool agrees =
      std::max_element(dense, dense + vocab) - dense == std::max_element(changed, changed + vocab) - changed;
  return {changed_sum - changed[next], kl, agrees, 1};
}

}  // namespace

DenseLogits keep_logits(ThreadTeam& team, MatrixView<const float> logits, int64_t scored) {
  DenseLogits out{Table(scored, logits.cols), std::vector<double>(size_t(scored))};
  team.split(scored, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::copy_n(logits[row], logits.cols, out.logits[row]);
      out.sum[size_t(row)] = log_sum(logits[row], size_t(logits.cols));
    }
  });
  return out;
}

Divergence compare_logits(ThreadTeam& team, const DenseLogits& dense, MatrixView<const float> changed,
                          std::span<const int32_t> next, int64_t first) {
  std::vector<Divergence> rows(next.size());
  team.split(std::max<int64_t>(0, int64_t(next.size()) - first), [&](int, int64_t begin, int64_t end) {
    for (int64_t row = first + begin; row < first + end; ++row)
      rows[size_t(row)] = compare_row(dense.logits[row], dense.sum[size_t(row)], changed[row], size_t(changed.cols),
                                      size_t(next[size_t(row)]));
  });
  Divergence out;
  for (const Divergence& row : rows) out += row;
  return out;
}

}  // namespace pleat
